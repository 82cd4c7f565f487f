// Package registryd embeds the CNCF Distribution registry in the all-in-one: the
// real program with its own storage. It reports manifests to the gateway by the same
// webhook as any other Distribution registry, but before it acknowledges them.
package registryd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // the storage engine it is configured with
	"github.com/sirupsen/logrus"                                                   //nolint:depguard // Distribution logs through logrus; this is where its output is redirected

	"github.com/seaworthy-dev/seaworthy/pkg/hostguard"
)

// Config configures the registry.
type Config struct {
	// Dir is where images are kept.
	Dir string
	// Listener is where it serves plain HTTP. Run closes it.
	Listener net.Listener
	// Names are the host names that it is called by, besides IP addresses, localhost and
	// names without a dot.
	Names []string
	// NotifyURL receives an event about each manifest that is pushed or deleted, before
	// the client gets its answer; empty sends none.
	NotifyURL string
	// Queued leaves the events to Distribution's own queue, which answers clients first
	// and forgets when the process ends. It is how other registries behave, for tests.
	Queued bool
	// NotifySecret is sent to NotifyURL as a bearer token.
	NotifySecret string
	// Logs receives the registry's own warnings and errors.
	Logs io.Writer
}

const (
	stopTimeout    = 5 * time.Second
	headerTimeout  = 10 * time.Second
	queueTimeout   = 5 * time.Second
	queueThreshold = 3
	queueBackoff   = time.Second
)

// Registry is an embedded registry.
type Registry struct {
	app      *handlers.App
	server   *http.Server
	listener net.Listener
	names    []string
}

// New builds a registry on the storage in cfg.Dir.
func New(ctx context.Context, cfg Config) (r *Registry, err error) {
	// NewApp panics on what it does not like in its configuration.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("embedded registry: %v", p)
		}
	}()
	redirectLogs(cfg.Logs)
	app := handlers.NewApp(ctx, distributionConfig(cfg))
	var handler http.Handler = app
	if cfg.NotifyURL != "" && !cfg.Queued {
		handler = newNotifying(app, cfg.NotifyURL, cfg.NotifySecret)
	}
	return &Registry{
		app:      app,
		server:   &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout},
		listener: cfg.Listener,
		names:    cfg.Names,
	}, nil
}

// Addr is the host and port that image references of this registry start with.
func (r *Registry) Addr() string { return r.listener.Addr().String() }

// Run serves until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	r.server.Handler = hostguard.Handler(r.server.Handler, r.names...)
	failed := make(chan error, 1)
	go func() { failed <- r.server.Serve(r.listener) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err = r.server.Shutdown(stop); err != nil {
			err = errors.Join(err, r.server.Close())
		}
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, r.app.Shutdown())
}

func distributionConfig(cfg Config) *configuration.Configuration {
	c := &configuration.Configuration{
		Storage: configuration.Storage{
			"filesystem": configuration.Parameters{"rootdirectory": cfg.Dir},
			"delete":     configuration.Parameters{"enabled": true},
			// What clients began to upload and gave up on.
			"maintenance": configuration.Parameters{
				"uploadpurging": map[any]any{"enabled": true, "age": "24h", "interval": "1h", "dryrun": false},
			},
		},
		// Distribution's own default, which a configuration without a file lacks.
		Catalog: configuration.Catalog{MaxEntries: 1000},
	}
	if cfg.Queued {
		// With the references the gateway sees that what was pushed is an
		// attestation, not an image.
		c.Notifications.EventConfig.IncludeReferences = true
		c.Notifications.Endpoints = []configuration.Endpoint{{
			Name: "seaworthy", URL: cfg.NotifyURL,
			Headers: http.Header{"Authorization": {"Bearer " + cfg.NotifySecret}},
			Timeout: queueTimeout, Threshold: queueThreshold, Backoff: queueBackoff,
			Ignore: configuration.Ignore{
				Actions: []string{"pull", "mount"}, MediaTypes: []string{"application/octet-stream"},
			},
		}}
	}
	return c
}

// logSink is where the registry of this process logs. Distribution has one logger
// per process, so this package has one too.
var logSink sync.Mutex

func redirectLogs(w io.Writer) {
	logSink.Lock()
	defer logSink.Unlock()
	if w == nil {
		w = io.Discard
	}
	logrus.SetOutput(w)
	logrus.SetLevel(logrus.ErrorLevel)
	logrus.SetFormatter(faultsOnly{&logrus.TextFormatter{}})
}

// faultsOnly drops what Distribution logs as an error although it is an answer:
// asking for a blob that is not there yet is how a push begins.
type faultsOnly struct{ logrus.Formatter }

func (f faultsOnly) Format(e *logrus.Entry) ([]byte, error) {
	if status, ok := e.Data["http.response.status"].(int); ok && status < http.StatusInternalServerError {
		return nil, nil
	}
	return f.Formatter.Format(e)
}
