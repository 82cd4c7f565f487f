package cli

import (
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/registryd"
	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

func newRegistry(out, logs io.Writer) *cobra.Command {
	var dir, address, notifyURL, secretFile string
	var names []string
	c := &cobra.Command{
		Use:   "registry",
		Short: "Serve only the embedded OCI registry",
		Long: `Serves the CNCF Distribution registry that run embeds, with its images in a directory.
With --notify each manifest is acknowledged after a gateway has stored the event about it. Plain HTTP without authentication: for
one machine, to try a fleet of separate processes.`,
		Example: `  seaworthy registry --dir ./images --listen 127.0.0.1:5000 \
    --notify http://127.0.0.1:8080/webhooks/v1/distribution/local --secret-file webhook.secret`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			secret := ""
			if secretFile != "" {
				content, err := regularfile.ReadFile(secretFile)
				if err != nil {
					return &usageError{fmt.Errorf("read the webhook secret: %w", err)}
				}
				secret = strings.TrimSpace(string(content))
			}
			listener, err := new(net.ListenConfig).Listen(c.Context(), "tcp", address)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			registry, err := registryd.New(c.Context(), registryd.Config{
				Dir: dir, Listener: listener, Names: names, NotifyURL: notifyURL, NotifySecret: secret, Logs: logs,
			})
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintln(out, "registry listens on", registry.Addr())
			return registry.Run(c.Context())
		},
	}
	c.Flags().StringVar(&dir, "dir", "registry", "directory of the images")
	c.Flags().StringVar(&address, "listen", "127.0.0.1:5000", "address to serve")
	c.Flags().StringArrayVar(&names, "name", nil, "host `NAME` that clients call it by, besides addresses, localhost and names without a dot; may be repeated")
	c.Flags().StringVar(&notifyURL, "notify", "", "URL of the gateway that hears of each manifest before it is acknowledged; empty tells nobody")
	c.Flags().StringVar(&secretFile, "secret-file", "", "file of the bearer secret for the notifications")
	return c
}
