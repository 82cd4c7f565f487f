package events

import (
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
)

// serverConfigHead is everything but the users. Variables come from the
// environment; the server refuses to start when one is missing.
const serverConfigHead = `# NATS server of the fleet. Made from the catalogue in pkg/events, do not edit:
#   go test ./pkg/events -run TestServerConfig -update
#
# The server takes from its environment:
#   SEAWORTHY_NATS_LISTEN     address, for example "127.0.0.1:4222"
#   SEAWORTHY_NATS_STORE_DIR  directory of the streams
#   SEAWORTHY_NATS_CA_FILE    certificates of the CA of the fleet, PEM
#   SEAWORTHY_NATS_CERT_FILE  certificate of spiffe://%[1]s/service/nats, PEM
#   SEAWORTHY_NATS_KEY_FILE   its key, PEM

server_name: seaworthy
listen: $SEAWORTHY_NATS_LISTEN

# A message is an event of at most 256 KiB or a dead letter with one inside.
max_payload: 1MB

jetstream {
  store_dir: $SEAWORTHY_NATS_STORE_DIR
  max_file_store: 4GB
  max_memory_store: 64MB
  # An acknowledged event survives a power cut, not only a crash.
  sync_interval: always
}

# The certificate is the identity: its SPIFFE ID is the name of the user.
tls {
  ca_file: $SEAWORTHY_NATS_CA_FILE
  cert_file: $SEAWORTHY_NATS_CERT_FILE
  key_file: $SEAWORTHY_NATS_KEY_FILE
  verify_and_map: true
  min_version: "1.3"
  timeout: 5
}

# Everything that is not listed is denied. The streams are in an account that only
# their provisioner works in; every service reaches what it needs of it from an
# account of its own. A server of an earlier release kept them in the account $G: move
# them while the server is stopped, in the store directory from jetstream/$G to
# jetstream/%[2]s.
`

// ServerConfig returns the configuration file of a NATS server of its own for
// the trust domain: mutual TLS, JetStream, and the users of Users. Where it
// listens and its files are variables of its environment. deploy/nats/nats.conf
// is the one for seaworthy.local.
func ServerConfig(trustDomain string, operators ...string) string {
	return fmt.Sprintf(serverConfigHead, trustDomain, eventbus.Account) + eventbus.Accounts(Users(trustDomain, operators...))
}
