// Package webhook has what the webhooks of all kinds of registries share. Each kind is a
// package below this one that implements Adapter.
package webhook

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"

	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/core"
)

// Adapter reads the webhooks of one kind of registry. It holds no state.
type Adapter interface {
	// Authenticate tells whether the headers of a request prove the secret of its source.
	// It must take as long for a wrong secret as for the right one.
	Authenticate(h http.Header, secret Secret) bool
	// MediaTypes are the content types of a body, without parameters.
	MediaTypes() []string
	// Parse returns the events of a body in their order. The error is a *ParseError.
	Parse(body []byte, l Limits) ([]core.Event, error)
}

// Limits bound a body beyond its size in bytes, which the server bounds.
type Limits struct {
	// Events is the largest number of events.
	Events int
	// Depth is the deepest nesting of objects and arrays.
	Depth int
}

// DefaultLimits are far above what a registry sends.
func DefaultLimits() Limits { return Limits{Events: 256, Depth: 16} }

// ParseError says what is wrong with a body, in words that may be shown to the sender.
type ParseError struct{ Detail string }

// Error implements error.
func (e *ParseError) Error() string { return "envelope: " + e.Detail }

// Errorf returns a *ParseError.
func Errorf(format string, args ...any) error {
	return &ParseError{Detail: fmt.Sprintf(format, args...)}
}

// Secret is the hash of what a source shares with the gateway.
type Secret [sha256.Size]byte

// NewSecret hashes a secret.
func NewSecret(secret string) Secret { return sha256.Sum256([]byte(secret)) }

// Equal compares hashes of equal length, so that the time it takes tells nothing about the
// secret.
func (s Secret) Equal(candidate string) bool {
	sum := sha256.Sum256([]byte(candidate))
	return subtle.ConstantTimeCompare(sum[:], s[:]) == 1
}

// BearerToken proves the secret of a source by `Authorization: Bearer`.
func BearerToken(h http.Header, secret Secret) bool {
	scheme, token, ok := strings.Cut(h.Get("Authorization"), " ")
	equal := secret.Equal(token)
	return equal && ok && strings.EqualFold(scheme, "Bearer") && token != ""
}
