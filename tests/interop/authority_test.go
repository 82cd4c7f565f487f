package interop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/sigstore/sigstore-go/pkg/root"
)

const (
	certified = "signer@seaworthy.test"
	issuer    = "https://issuer.seaworthy.test"
	// authorityAge is how long ago the authorities began and how long they last still.
	authorityAge = 24 * time.Hour
)

// authority issues certificates and timestamps for any time, which the real ones do
// only for the present.
type authority struct {
	root, signing, stamping       *x509.Certificate
	signingKey, stampKey, rootKey *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	now := time.Now()
	a := &authority{rootKey: newECDSA(t), signingKey: newECDSA(t), stampKey: newECDSA(t)}
	above := func(name string) *x509.Certificate {
		return &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-authorityAge), NotAfter: now.Add(authorityAge),
			KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
		}
	}
	top := above("root")
	a.root = issue(t, top, top, a.rootKey.Public(), a.rootKey)
	signing := above("signing")
	signing.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	a.signing = issue(t, signing, a.root, a.signingKey.Public(), a.rootKey)
	// Whoever stamps time may do nothing else, which must be critical (RFC 3161, 2.3).
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		t.Fatal(err)
	}
	a.stamping = issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "time"}, NotBefore: now.Add(-authorityAge), NotAfter: now.Add(authorityAge),
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}},
	}, a.root, a.stampKey.Public(), a.rootKey)
	return a
}

func newECDSA(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t *testing.T, template, parent *x509.Certificate, key crypto.PublicKey, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	var err error
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// certify is a certificate as Fulcio issues them, in DER.
func (a *authority) certify(t *testing.T, key crypto.PublicKey, from, to time.Time) []byte {
	t.Helper()
	text, err := asn1.MarshalWithParams(issuer, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	return issue(t, &x509.Certificate{
		EmailAddresses: []string{certified}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(issuer)},
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: text},
		},
	}, a.signing, key, a.signingKey).Raw
}

// stamp is the RFC 3161 answer that a signature existed at a time.
func (a *authority) stamp(t *testing.T, signature []byte, at time.Time) []byte {
	t.Helper()
	sum := sha256.Sum256(signature)
	answer := timestamp.Timestamp{
		HashAlgorithm: crypto.SHA256, HashedMessage: sum[:], Time: at, Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2},
	}
	der, err := answer.CreateResponseWithOpts(a.stamping, a.stampKey, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// trustedRoot is the file that names the authority.
func (a *authority) trustedRoot(t *testing.T) []byte {
	t.Helper()
	start := a.root.NotBefore
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01,
		[]root.CertificateAuthority{&root.FulcioCertificateAuthority{
			URI: "https://fulcio.seaworthy.test", Root: a.root, Intermediates: []*x509.Certificate{a.signing}, ValidityPeriodStart: start,
		}}, nil,
		[]root.TimestampingAuthority{&root.SigstoreTimestampingAuthority{
			URI: "https://time.seaworthy.test", Leaf: a.stamping, Root: a.root, ValidityPeriodStart: start,
		}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := trusted.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
