package command

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// certServices are the names that get a service's certificate: the five services,
// the NATS server, and the provisioner of its streams.
var certServices = []string{"gateway", "scanner", "signer", "verifier", "notifier", "nats", eventbus.Provisioner}

func (s *session) certs() *cobra.Command {
	return group("certs", "Make the certificates of a fleet", s.certsInit())
}

// certsQuery is what certificates are made by.
type certsQuery struct {
	dir, trustDomain, operator, client string
	validity                           time.Duration
}

func (s *session) certsInit() *cobra.Command {
	var q certsQuery
	cmd := &cobra.Command{
		Use:   "init --dir DIR",
		Short: "Make a private CA and the certificates of services, operator and client",
		Long: `Init makes a private CA in DIR and with it a certificate for each service, for the
NATS server, for the provisioner of its streams (seaworthyctl topology), for one
operator and for one client. Run it again to renew: the CA
and certificates with more than a third of their life left are kept. The
processes take renewed files without a restart.

ca.key can make any identity of the fleet: keep it away from the services.`,
		Example: `  seaworthyctl certs init --dir pki --operator alice`,
		Args:    cobra.NoArgs,
		RunE:    s.run(func(_ context.Context, _ []string) error { return s.runCertsInit(q) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&q.dir, "dir", "", "`DIR` for the files")
	flags.StringVar(&q.trustDomain, "trust-domain", fleetcontext.DefaultTrustDomain, "trust domain of the identities")
	flags.StringVar(&q.operator, "operator", "admin", "name of the operator, whose files are operator.crt and operator.key")
	flags.StringVar(&q.client, "client", "cli", "name of the client, whose files are client.crt and client.key")
	flags.DurationVar(&q.validity, "validity", 90*24*time.Hour, "how long the certificates are valid")
	_ = cmd.MarkFlagRequired("dir")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

// issued is a certificate as JSON.
type issued struct {
	Name     string    `json:"name"`
	ID       string    `json:"spiffeId"`
	CertFile string    `json:"certFile"`
	KeyFile  string    `json:"keyFile"`
	NotAfter time.Time `json:"notAfter"`
}

func (s *session) runCertsInit(q certsQuery) error {
	if q.validity <= 0 {
		return usagef("--validity %s is not positive", q.validity)
	}
	wanted := []struct{ name, id string }{}
	for _, name := range certServices {
		wanted = append(wanted, struct{ name, id string }{name, tlsx.ServiceID(q.trustDomain, name)})
	}
	wanted = append(wanted,
		struct{ name, id string }{"operator", tlsx.OperatorID(q.trustDomain, q.operator)},
		struct{ name, id string }{"client", tlsx.ClientID(q.trustDomain, q.client)})
	for _, w := range wanted {
		if _, err := tlsx.ParseID(w.id); err != nil {
			return &usageError{err}
		}
	}
	ca, err := tlsx.LoadOrCreateCA(q.dir)
	if err != nil {
		return err
	}
	list := make([]issued, 0, len(wanted))
	for _, w := range wanted {
		files, err := ca.Issue(q.dir, w.name, w.id, q.validity)
		if err != nil {
			return err
		}
		source, err := tlsx.NewSource(files)
		if err != nil {
			return err
		}
		list = append(list, issued{w.name, source.ID(), files.CertFile, files.KeyFile, source.NotAfter().UTC()})
	}
	if s.json() {
		return output.JSON(s.env.Out, struct {
			CAFile       string   `json:"caFile"`
			Certificates []issued `json:"certificates"`
		}{ca.CertFile(), list})
	}
	t := output.NewTable(s.env.Out, "NAME", "SPIFFE ID", "CERTIFICATE", "VALID UNTIL")
	for _, i := range list {
		t.Row(i.Name, i.ID, i.CertFile, output.Time(i.NotAfter))
	}
	return t.Flush()
}
