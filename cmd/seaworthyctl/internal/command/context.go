package command

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
)

func (s *session) context() *cobra.Command {
	return group("context", "See which fleet the commands talk to", s.contextShow())
}

// shown is a context as JSON.
type shown struct {
	File     string                `json:"file"`
	ID       string                `json:"spiffeId"`
	CertFile string                `json:"certFile"`
	NotAfter time.Time             `json:"notAfter"`
	Context  *fleetcontext.Context `json:"context"`
}

func (s *session) contextShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show",
		Short:   "Show the context file in use, the addresses in it and who you are",
		Example: "  seaworthyctl context show",
		Args:    cobra.NoArgs,
		RunE: s.run(func(context.Context, []string) error {
			f, err := s.open()
			if err != nil {
				return err
			}
			c := f.Context
			if s.json() {
				return output.JSON(s.env.Out, shown{f.File, f.ID(), c.TLS.CertFile, f.NotAfter().UTC(), c})
			}
			t := output.NewTable(s.env.Out)
			t.Row("CONTEXT", f.File)
			t.Row("YOU ARE", f.ID())
			t.Row("CERTIFICATE", c.TLS.CertFile+", valid until "+output.Time(f.NotAfter()))
			t.Row("GATEWAY", c.Addresses.Gateway)
			t.Row("SCANNER", c.Addresses.Scanner)
			t.Row("SIGNER", c.Addresses.Signer)
			t.Row("VERIFIER", c.Addresses.Verifier)
			t.Row("NOTIFIER", c.Addresses.Notifier)
			t.Row("NATS", c.NATS)
			t.Row("REGISTRY", c.Registry.Host)
			return t.Flush()
		}),
	}
}
