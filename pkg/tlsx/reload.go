package tlsx

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

// material returns the state in use without a look at the files.
func (s *Source) material() *material {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// refreshed returns the state in use after a look at the files, at most one
// look per lookInterval. Whatever is wrong with the new files, for example a
// certificate whose key is not written yet, the old state stays in use.
func (s *Source) refreshed() *material {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if since := now.Sub(s.lastLook); since >= 0 && since < lookInterval {
		return s.current
	}
	s.lastLook = now

	f, err := s.read()
	if err != nil {
		s.reject(&files{}, err)
		return s.current
	}
	if f.equal(s.current.files) {
		s.rejected = nil
		return s.current
	}
	if f.equal(s.rejected) {
		return s.current
	}
	m, err := s.parse(f)
	if err == nil && m.identity != s.current.identity {
		err = fmt.Errorf("the identity changed to %s", m.identity)
	}
	if err != nil {
		s.reject(f, err)
		return s.current
	}
	s.current, s.rejected = m, nil
	s.log.Info("certificate reloaded", "spiffe_id", m.identity.String(), "not_after", m.cert.Leaf.NotAfter)
	return m
}

func (s *Source) reject(f *files, err error) {
	if f.equal(s.rejected) {
		return
	}
	s.rejected = f
	s.log.Error("certificate files refused, the old ones stay in use",
		"error", err, "spiffe_id", s.current.identity.String(), "not_after", s.current.cert.Leaf.NotAfter)
}

func (s *Source) read() (*files, error) {
	var f files
	for _, one := range []struct {
		key, path string
		to        *[]byte
	}{{"ca_file", s.cfg.CAFile, &f.ca}, {"cert_file", s.cfg.CertFile, &f.cert}, {"key_file", s.cfg.KeyFile, &f.key}} {
		if one.path == "" {
			return nil, fmt.Errorf("%s is not set: mutual TLS is mandatory", one.key)
		}
		data, err := readFile(one.path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", one.key, err)
		}
		*one.to = data
	}
	return &f, nil
}

func readFile(path string) ([]byte, error) {
	f, err := regularfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFileSize)
	}
	return data, nil
}

func (s *Source) parse(f *files) (*material, error) {
	roots, err := parseCertificates(f.ca)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.cfg.CAFile, err)
	}
	pool := x509.NewCertPool()
	for _, c := range roots {
		pool.AddCert(c)
	}
	cert, err := tls.X509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", s.cfg.CertFile, s.cfg.KeyFile, err)
	}
	intermediates := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.cfg.CertFile, err)
		}
		intermediates.AddCert(c)
	}
	_, err = cert.Leaf.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: intermediates, CurrentTime: s.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("%s is not valid under %s: %w", s.cfg.CertFile, s.cfg.CAFile, err)
	}
	raw, err := certificateID(cert.Leaf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.cfg.CertFile, err)
	}
	identity, err := ParseID(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.cfg.CertFile, err)
	}
	return &material{files: f, cert: cert, pool: pool, identity: identity}, nil
}

// parseCertificates reads one or more PEM certificates and nothing else.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("PEM block %q is not a certificate", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no PEM certificate in it")
	}
	return out, nil
}
