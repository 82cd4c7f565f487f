package tlsx

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// lookInterval is the shortest time between two looks at the files.
const lookInterval = time.Second

// maxFileSize bounds a certificate, key or CA file.
const maxFileSize = 1 << 20

// Config names the files of a process's identity, all PEM.
type Config struct {
	// CAFile holds the certificates of the CAs that peers are verified against.
	// During the change of a CA it holds both, the old and the new one.
	CAFile string `yaml:"ca_file"`
	// CertFile holds the process's certificate, then any intermediates.
	CertFile string `yaml:"cert_file"`
	// KeyFile holds the private key of the certificate.
	KeyFile string `yaml:"key_file"`
}

// Source holds the certificate of a process and the CAs it trusts, and follows
// the files when they change. The configurations it makes always use the newest
// good state, so a renewed certificate needs no restart. It is safe for use by
// several goroutines.
type Source struct {
	cfg Config
	now func() time.Time
	log *slog.Logger

	mu       sync.Mutex
	lastLook time.Time
	current  *material
	rejected *files // what was refused last, so that it is logged once
}

// files is the content of the three files.
type files struct{ ca, cert, key []byte }

func (f *files) equal(o *files) bool {
	return o != nil && bytes.Equal(f.ca, o.ca) && bytes.Equal(f.cert, o.cert) && bytes.Equal(f.key, o.key)
}

// material is one consistent state of a source.
type material struct {
	files    *files
	cert     tls.Certificate
	pool     *x509.CertPool
	identity Identity
}

// Option changes a Source.
type Option func(*Source)

// WithLogger makes the source log reloads and refused files there; without it
// they are not logged.
func WithLogger(l *slog.Logger) Option { return func(s *Source) { s.log = l } }

// WithClock makes the source read the time there.
func WithClock(now func() time.Time) Option { return func(s *Source) { s.now = now } }

// NewSource reads the files of cfg. It fails if one is missing or malformed, if
// the key does not belong to the certificate, if the certificate is not valid
// now or not issued by one of the CAs, or if it carries no SPIFFE ID.
func NewSource(cfg Config, opts ...Option) (*Source, error) {
	s := &Source{cfg: cfg, now: time.Now, log: slog.New(slog.DiscardHandler)}
	for _, o := range opts {
		o(s)
	}
	f, err := s.read()
	if err != nil {
		return nil, err
	}
	m, err := s.parse(f)
	if err != nil {
		return nil, err
	}
	s.current, s.lastLook = m, s.now()
	return s, nil
}

// ID returns the SPIFFE ID of the process.
func (s *Source) ID() string { return s.material().identity.String() }

// NotAfter returns when the certificate in use ends.
func (s *Source) NotAfter() time.Time { return s.material().cert.Leaf.NotAfter }

// TrustDomain returns the trust domain of the process's own identity; peers of
// another trust domain are refused.
func (s *Source) TrustDomain() string { return s.material().identity.TrustDomain }

// Server returns the configuration of a server that demands a certificate of
// its own trust domain from every client. protocols are the ALPN protocols, for
// example "h2"; a server whose protocol has none passes none.
func (s *Source) Server(protocols ...string) *tls.Config {
	protocols = slices.Clone(protocols)
	forClient := func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m := s.refreshed()
		return &tls.Config{
			MinVersion:   tls.VersionTLS13,
			Certificates: []tls.Certificate{m.cert},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    m.pool,
			NextProtos:   protocols,
			Time:         s.now,
			// A resumed session would outlive the certificate it was made with.
			SessionTicketsDisabled: true,
			VerifyConnection: func(cs tls.ConnectionState) error {
				return checkTrustDomain(cs, m.identity.TrustDomain)
			},
		}, nil
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		NextProtos:             protocols,
		SessionTicketsDisabled: true,
		GetConfigForClient:     forClient,
		// Servers that look for a certificate before they listen find one.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &s.refreshed().cert, nil
		},
	}
}

// Client returns the configuration of a client that talks only to the peer with
// exactly this SPIFFE ID, whatever its host name is.
func (s *Source) Client(peerID string) *tls.Config { return s.ClientFor(peerID) }

// ClientFor is like Client for a server that may have any of several SPIFFE
// IDs. Without any, every connection fails.
func (s *Source) ClientFor(peerIDs ...string) *tls.Config {
	peerIDs = slices.Clone(peerIDs)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The standard check is of the host name, which says nothing here;
		// VerifyConnection checks the chain and the identity instead, and it
		// runs on every connection.
		InsecureSkipVerify: true, //nolint:gosec // verified in VerifyConnection
		VerifyConnection: func(cs tls.ConnectionState) error {
			return s.verifyServer(cs, peerIDs)
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &s.refreshed().cert, nil
		},
		Time: s.now,
	}
}

func (s *Source) verifyServer(cs tls.ConnectionState, peerIDs []string) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the server sent no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots:         s.refreshed().pool,
		Intermediates: intermediates,
		CurrentTime:   s.now(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("verify the server's certificate: %w", err)
	}
	id, err := PeerID(cs)
	if err != nil {
		return err
	}
	if !slices.Contains(peerIDs, id) {
		return fmt.Errorf("the server is %s, want %v", id, peerIDs)
	}
	return nil
}

func checkTrustDomain(cs tls.ConnectionState, trustDomain string) error {
	peer, err := PeerID(cs)
	if err != nil {
		return err
	}
	id, err := ParseID(peer)
	if err != nil {
		return err
	}
	if id.TrustDomain != trustDomain {
		return fmt.Errorf("the peer %s is not of trust domain %s", peer, trustDomain)
	}
	return nil
}
