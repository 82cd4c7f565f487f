package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// recheck is how long a certificate is used before its files are read again.
const recheck = time.Minute

// Certificate is the certificate of the public server. It is renewed without a
// restart; files that cannot be read keep the one there is.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	read    time.Time
}

// NewCertificate reads a certificate and its key in PEM.
func NewCertificate(certFile, keyFile string, log *slog.Logger, now func() time.Time) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, now: now}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// Config returns the configuration of a public HTTPS server. It offers HTTP/1.1
// only, so that the limits per connection are limits per request.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.now().Sub(c.read) >= recheck {
				if err := c.load(); err != nil {
					c.log.ErrorContext(hello.Context(), "certificate not renewed", "error", err)
					c.read = c.now()
				}
			}
			return c.current, nil
		},
	}
}

func (c *Certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	c.current, c.read = &pair, c.now()
	return nil
}
