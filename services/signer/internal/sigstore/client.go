// Package sigstore asks the services of a Sigstore, private or public, for
// certificates, log entries and timestamps. Which they are stands in Sigstore's own
// signing config, by whom their answers are verified in its trusted root.
package sigstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
)

// Config names a Sigstore.
type Config struct {
	// SigningConfig is the file that names the services: signing_config.json, v0.2.
	SigningConfig string `yaml:"signing_config"`
	// TrustedRoot is the file that names their keys and chains: trusted_root.json.
	TrustedRoot string `yaml:"trusted_root"`
	// Fulcio, Rekor and Timestamp are the limits of calls to each kind of service.
	Fulcio    guard.Limits `yaml:"fulcio"`
	Rekor     guard.Limits `yaml:"rekor"`
	Timestamp guard.Limits `yaml:"timestamp"`
}

// IsZero says whether no Sigstore is named.
func (c Config) IsZero() bool { return c.SigningConfig == "" && c.TrustedRoot == "" }

// maxFile bounds the two files, in bytes.
const maxFile = attest.MaxSigstoreRoot

// What to do about a file that cannot be used.
const (
	giveSigningConfig = "give the signing_config.json of your Sigstore; `cosign signing-config create` makes one"
	giveTrustedRoot   = "give the trusted_root.json of your Sigstore; `cosign trusted-root create` makes one"
)

// Client is safe for concurrent use.
type Client struct {
	signing *root.SigningConfig
	trusted *attest.SigstoreRoot
	rawRoot []byte

	fulcio, rekor, stamps *guard.Guard
	transport             http.RoundTripper
	now                   func() time.Time

	mu   sync.Mutex
	logs map[string]*sign.Rekor
}

// Open reads both files. It asks no service anything. Close it.
func Open(c Config, now func() time.Time) (*Client, error) {
	raw, err := readFile(c.SigningConfig)
	if err != nil {
		return nil, fmt.Errorf("sigstore.signing_config: %w: %s", err, giveSigningConfig)
	}
	signing, err := root.NewSigningConfigFromJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("sigstore.signing_config: %s is not a signing config of version 0.2: %w: %s", c.SigningConfig, err, giveSigningConfig)
	}
	if raw, err = readFile(c.TrustedRoot); err != nil {
		return nil, fmt.Errorf("sigstore.trusted_root: %w: %s", err, giveTrustedRoot)
	}
	trusted, err := attest.ParseSigstoreRoot(raw)
	if err != nil {
		return nil, fmt.Errorf("sigstore.trusted_root: %s: %w: %s", c.TrustedRoot, err, giveTrustedRoot)
	}
	// A transport of its own: Close ends its connections and nobody else's.
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one in every program that has not replaced it
	return &Client{
		signing: signing, trusted: trusted, rawRoot: raw, now: now, transport: transport, logs: map[string]*sign.Rekor{},
		fulcio: guard.New("Fulcio", c.Fulcio, now),
		rekor:  guard.New("Rekor", c.Rekor, now),
		stamps: guard.New("timestamp authority", c.Timestamp, now),
	}, nil
}

// Root names the authorities that are trusted.
func (c *Client) Root() *attest.SigstoreRoot { return c.trusted }

// RootJSON is the trusted root as it was read.
func (c *Client) RootJSON() []byte { return c.rawRoot }

// Close ends the connections that wait for another use.
func (c *Client) Close() {
	if t, ok := c.transport.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// HasFulcio says whether there is a certificate authority.
func (c *Client) HasFulcio() bool { return len(c.signing.FulcioCertificateAuthorityURLs()) > 0 }

// HasLog says whether there is a transparency log.
func (c *Client) HasLog() bool { return len(c.signing.RekorLogURLs()) > 0 }

// HasTimestamps says whether there is a timestamp authority.
func (c *Client) HasTimestamps() bool { return len(c.signing.TimestampAuthorityURLs()) > 0 }

// Witness adds what the services say about a signature.
func (c *Client) Witness(log, timestamp bool) *Witness {
	return &Witness{client: c, log: log, timestamp: timestamp}
}

// Witness is an identity.Witness.
type Witness struct {
	client         *Client
	log, timestamp bool
}

// Root implements identity.Witness.
func (w *Witness) Root() *attest.SigstoreRoot { return w.client.trusted }

// Promises implements identity.Witness.
func (w *Witness) Promises() (log, timestamp bool) { return w.log, w.timestamp }

// TakesWhole implements identity.Witness: Rekor v2 takes in the digest of what was
// signed, Rekor v1 the envelope with all of it.
func (w *Witness) TakesWhole() bool {
	if !w.log {
		return false
	}
	services, err := w.client.logServices()
	return err == nil && slices.ContainsFunc(services, func(s root.Service) bool { return s.MajorAPIVersion == 1 })
}

// Add implements identity.Witness. The timestamp comes first: it proves that the
// signature was there before the log took it in.
func (w *Witness) Add(ctx context.Context, b *protobundle.Bundle, signerPEM []byte) error {
	if w.timestamp {
		if err := w.client.stamp(ctx, b); err != nil {
			return err
		}
	}
	if w.log {
		return w.client.enter(ctx, b, signerPEM)
	}
	return nil
}

func readFile(path string) ([]byte, error) {
	if path == "" {
		return nil, errors.New("no file is given")
	}
	f, err := regularfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return raw, nil
}
