package tlsx

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// Kinds of identity: the first segment of a SPIFFE ID's path.
const (
	KindService  = "service"
	KindOperator = "operator"
	KindClient   = "client"
)

// Limits of a SPIFFE ID, as the SPIFFE specification sets them.
const (
	maxIDLength          = 2048
	maxTrustDomainLength = 255
)

// ErrNoIdentity says that a certificate carries no usable SPIFFE ID.
var ErrNoIdentity = errors.New("certificate carries no SPIFFE ID")

// Identity is a SPIFFE ID of the fleet in its parts.
type Identity struct {
	TrustDomain string // for example "seaworthy.local"
	Kind        string // KindService, KindOperator or KindClient
	Name        string // for example "scanner"
}

// String returns the identity as a SPIFFE ID.
func (i Identity) String() string {
	return "spiffe://" + i.TrustDomain + "/" + i.Kind + "/" + i.Name
}

// ServiceID returns the SPIFFE ID of a service.
func ServiceID(trustDomain, service string) string {
	return Identity{trustDomain, KindService, service}.String()
}

// OperatorID returns the SPIFFE ID of an operator.
func OperatorID(trustDomain, name string) string {
	return Identity{trustDomain, KindOperator, name}.String()
}

// ClientID returns the SPIFFE ID of a client.
func ClientID(trustDomain, name string) string {
	return Identity{trustDomain, KindClient, name}.String()
}

// ParseID splits a SPIFFE ID of the form `spiffe://<trust domain>/<kind>/<name>`.
// It is strict: another scheme, an upper-case trust domain, a port, a query, an
// escaped character or another number of path segments is an error, so that two
// different strings never mean the same identity.
func ParseID(id string) (Identity, error) {
	if len(id) > maxIDLength {
		return Identity{}, fmt.Errorf("SPIFFE ID of %d bytes is longer than %d", len(id), maxIDLength)
	}
	rest, ok := strings.CutPrefix(id, "spiffe://")
	if !ok {
		return Identity{}, fmt.Errorf("SPIFFE ID %q does not start with spiffe://", id)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 {
		return Identity{}, fmt.Errorf("SPIFFE ID %q is not spiffe://<trust domain>/<kind>/<name>", id)
	}
	i := Identity{TrustDomain: parts[0], Kind: parts[1], Name: parts[2]}
	if i.TrustDomain == "" || len(i.TrustDomain) > maxTrustDomainLength || !consistsOf(i.TrustDomain, isTrustDomainChar) {
		return Identity{}, fmt.Errorf("SPIFFE ID %q: bad trust domain", id)
	}
	switch i.Kind {
	case KindService, KindOperator, KindClient:
	default:
		return Identity{}, fmt.Errorf("SPIFFE ID %q: kind %q is not service, operator or client", id, i.Kind)
	}
	if i.Name == "" || i.Name == "." || i.Name == ".." || !consistsOf(i.Name, isPathChar) {
		return Identity{}, fmt.Errorf("SPIFFE ID %q: bad name", id)
	}
	return i, nil
}

// PeerID returns the SPIFFE ID of the other side of a finished handshake. A
// certificate with no URI SAN, with several, or with one that is no SPIFFE ID
// of the fleet gives an error that wraps ErrNoIdentity.
func PeerID(cs tls.ConnectionState) (string, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", fmt.Errorf("%w: the peer sent no certificate", ErrNoIdentity)
	}
	return certificateID(cs.PeerCertificates[0])
}

func certificateID(c *x509.Certificate) (string, error) {
	if len(c.URIs) != 1 {
		return "", fmt.Errorf("%w: %d URI names instead of one", ErrNoIdentity, len(c.URIs))
	}
	id, err := ParseID(c.URIs[0].String())
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoIdentity, err)
	}
	return id.String(), nil
}

func consistsOf(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func isTrustDomainChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}

func isPathChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}
