package command

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// topologyQuery says where the streams are made and as whom.
type topologyQuery struct {
	url, certs string
	tls        tlsx.Config
	replicas   int
	ackWait    time.Duration
	watch      bool
}

func (s *session) topology() *cobra.Command {
	var q topologyQuery
	cmd := &cobra.Command{
		Use:   "topology",
		Short: "Make the event streams of a fleet",
		Long: `Topology makes the streams and consumers of a fleet on its NATS server, and puts
right those that differ from what this release needs. No service may do that: a
fleet outside the all-in-one needs one topology --watch that keeps running. It
makes lost streams again within seconds; the services wait for it.

It uses the certificate of spiffe://<trust domain>/service/topology, which
"certs init" makes. Streams and consumers that this release does not know are
named and left alone. With --watch, changes are logged to the standard error.`,
		Example: `  seaworthyctl topology --nats nats://127.0.0.1:4222 --certs pki
  seaworthyctl topology --watch --nats nats://nats:4222 --ca-file ca.crt --cert-file tls.crt --key-file tls.key`,
		Args: cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error { return s.runTopology(ctx, q) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&q.url, "nats", "", "`URL` of the NATS servers, separated by commas (default: that of the context)")
	flags.StringVar(&q.certs, "certs", "", "`DIR` that certs init made; the files below are in it by default")
	flags.StringVar(&q.tls.CAFile, "ca-file", "", "`FILE` with the certificates of the CA")
	flags.StringVar(&q.tls.CertFile, "cert-file", "", "`FILE` with the provisioner's certificate")
	flags.StringVar(&q.tls.KeyFile, "key-file", "", "`FILE` with its key")
	flags.IntVar(&q.replicas, "replicas", 1, "how many servers of a cluster keep each stream: 1, 3 or 5")
	flags.BoolVar(&q.watch, "watch", false, "keep running: make lost streams again, put changed ones right")
	flags.DurationVar(&q.ackWait, "ack-wait", 0, "replace the consumers' AckWait, for tests")
	_ = flags.MarkHidden("ack-wait")
	_ = cmd.MarkFlagDirname("certs")
	return cmd
}

func (s *session) runTopology(ctx context.Context, q topologyQuery) error {
	if q.url == "" {
		f, err := s.open()
		if err != nil {
			return err
		}
		q.url = f.Context.NATS
	}
	cfg := eventbus.Config{URL: q.url, Replicas: q.replicas, AckWait: q.ackWait}
	var p config.Problems
	cfg.Validate(&p)
	if err := p.Err(); err != nil {
		return &usageError{err}
	}
	if q.certs != "" {
		for _, f := range []struct {
			path *string
			name string
		}{{&q.tls.CAFile, "ca.crt"}, {&q.tls.CertFile, eventbus.Provisioner + ".crt"}, {&q.tls.KeyFile, eventbus.Provisioner + ".key"}} {
			if *f.path == "" {
				*f.path = filepath.Join(q.certs, f.name)
			}
		}
	}
	if q.tls.CAFile == "" || q.tls.CertFile == "" || q.tls.KeyFile == "" {
		return usagef("give --certs, or --ca-file, --cert-file and --key-file")
	}
	source, err := tlsx.NewSource(q.tls)
	if err != nil {
		return err
	}
	if want := tlsx.ServiceID(source.TrustDomain(), eventbus.Provisioner); source.ID() != want {
		return usagef("%s is the certificate of %s, not of %s", q.tls.CertFile, source.ID(), want)
	}
	if q.watch {
		telemetry, err := obs.Start(ctx, eventbus.Provisioner, obs.Config{LogLevel: "info", LogFormat: "text"}, s.logs)
		if err != nil {
			return err
		}
		defer func() { _ = telemetry.Shutdown(context.WithoutCancel(ctx)) }()
		return events.Provision(ctx, cfg, source, telemetry)
	}
	ctx, cancel := s.limit(ctx, defaultTimeout)
	defer cancel()
	bus, err := events.Connect(ctx, cfg, eventbus.Provisioner, source, obs.Discard(eventbus.Provisioner))
	if err != nil {
		return err
	}
	changes, err := bus.Apply(ctx)
	if err := s.printChanges(changes); err != nil {
		return err
	}
	_ = bus.Close(ctx) // everything is done
	return err
}

func (s *session) printChanges(changes []eventbus.Change) error {
	if s.json() {
		type change struct {
			Kind   string   `json:"kind"`
			Name   string   `json:"name"`
			Action string   `json:"action"`
			Fields []string `json:"fields,omitempty"`
		}
		list := make([]change, len(changes))
		for i, c := range changes {
			list[i] = change(c)
		}
		return output.JSON(s.env.Out, struct {
			Changes []change `json:"changes"`
		}{list})
	}
	if len(changes) == 0 {
		s.notef("nothing to do")
		return nil
	}
	t := output.NewTable(s.env.Out, "KIND", "NAME", "ACTION", "FIELDS")
	for _, c := range changes {
		t.Row(c.Kind, c.Name, c.Action, strings.Join(c.Fields, ", "))
	}
	return t.Flush()
}
