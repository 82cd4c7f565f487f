package tlsx

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	caName     = "ca"
	caValidity = 10 * 365 * 24 * time.Hour
	// clockSkew is how far a new certificate reaches into the past, for machines
	// whose clocks differ.
	clockSkew = 5 * time.Minute
)

// CA is a private certificate authority whose key lies in a directory. It is
// for a fleet on one machine and for tests; a larger fleet brings certificates
// of its own CA in the same files.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
	now  func() time.Time
}

// LoadOrCreateCA opens the CA in dir, in ca.crt and ca.key (mode 0600), or
// creates it, valid for ten years. The directory is made if it is missing. A
// certificate without its key is an error: a new CA in its place would refuse
// every certificate issued so far.
func LoadOrCreateCA(dir string) (*CA, error) { return loadOrCreateCA(dir, time.Now) }

func loadOrCreateCA(dir string, now func() time.Time) (*CA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the CA's directory: %w", err)
	}
	ca := &CA{file: filepath.Join(dir, caName+".crt"), now: now}
	keyFile := filepath.Join(dir, caName+".key")
	var err error
	ca.key, err = loadKey(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(ca.file); statErr == nil {
			return nil, fmt.Errorf("%s exists but its key %s does not", ca.file, keyFile)
		}
		ca.key, err = createKey(keyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("key of the CA: %w", err)
	}
	data, err := readFile(ca.file)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = ca.createRoot()
	}
	if err != nil {
		return nil, fmt.Errorf("certificate of the CA: %w", err)
	}
	certs, err := parseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ca.file, err)
	}
	ca.cert = certs[0]
	if !ca.key.PublicKey.Equal(ca.cert.PublicKey) {
		return nil, fmt.Errorf("%s does not belong to %s", keyFile, ca.file)
	}
	if !ca.cert.IsCA {
		return nil, fmt.Errorf("%s is not the certificate of a CA", ca.file)
	}
	if now().After(ca.cert.NotAfter) {
		return nil, fmt.Errorf("%s expired at %s", ca.file, ca.cert.NotAfter.Format(time.RFC3339))
	}
	return ca, nil
}

// CertFile returns the path of the CA's certificate.
func (ca *CA) CertFile() string { return ca.file }

func (ca *CA) createRoot() ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := ca.now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"Seaworthy"}, CommonName: "Seaworthy private CA"},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(caValidity),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &ca.key.PublicKey, ca.key)
	if err != nil {
		return nil, err
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return data, writeFile(ca.file, data, 0o644)
}

// Issue gives name a key and a certificate with the SPIFFE ID, valid for
// validity but never longer than the CA, and for connections on this machine
// (localhost, 127.0.0.1, ::1). It writes dir/name.crt and dir/name.key (mode
// 0600). A pair that is there already, belongs to this CA and this identity and
// has more than a third of its life left is kept.
func (ca *CA) Issue(dir, name, spiffeID string, validity time.Duration) (Config, error) {
	if name == "" || name == caName || !consistsOf(name, isPathChar) || name[0] == '.' {
		return Config{}, fmt.Errorf("invalid certificate file name %q", name)
	}
	if validity <= 0 {
		return Config{}, fmt.Errorf("validity %s is not positive", validity)
	}
	if _, err := ParseID(spiffeID); err != nil {
		return Config{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Config{}, fmt.Errorf("create the certificate directory: %w", err)
	}
	cfg := Config{CAFile: ca.file, CertFile: filepath.Join(dir, name+".crt"), KeyFile: filepath.Join(dir, name+".key")}
	if ca.stillGood(cfg, spiffeID) {
		return cfg, nil
	}
	key, err := createKey(cfg.KeyFile)
	if err != nil {
		return Config{}, fmt.Errorf("key for %s: %w", name, err)
	}
	if err := ca.writeCertificate(cfg.CertFile, key, name, spiffeID, validity); err != nil {
		return Config{}, fmt.Errorf("certificate for %s: %w", name, err)
	}
	return cfg, nil
}

func (ca *CA) writeCertificate(path string, key *ecdsa.PrivateKey, name, spiffeID string, validity time.Duration) error {
	serial, err := newSerial()
	if err != nil {
		return err
	}
	id, err := url.Parse(spiffeID)
	if err != nil {
		return err
	}
	now := ca.now()
	notAfter := now.Add(validity)
	if notAfter.After(ca.cert.NotAfter) {
		notAfter = ca.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"Seaworthy"}, CommonName: name},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:         []*url.URL{id},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return err
	}
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func (ca *CA) stillGood(cfg Config, spiffeID string) bool {
	certPEM, err := readFile(cfg.CertFile)
	if err != nil {
		return false
	}
	keyPEM, err := readFile(cfg.KeyFile)
	if err != nil {
		return false
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return false
	}
	leaf := pair.Leaf
	if id, err := certificateID(leaf); err != nil || id != spiffeID {
		return false
	}
	if leaf.CheckSignatureFrom(ca.cert) != nil {
		return false
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.NotAfter.Sub(ca.now()) > life/3
}
