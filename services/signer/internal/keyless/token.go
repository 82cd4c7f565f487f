package keyless

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
)

// ErrToken says that there is no identity token that can be used now. Whoever
// writes it has to write a new one.
var ErrToken = errors.New("no usable identity token")

// maxToken bounds a token, in bytes: an HTTP header has to hold it.
const maxToken = 16 << 10

// token reads the identity token anew: a projected token of Kubernetes is a file
// that is replaced while the signer runs.
func token(source config.Secret, now time.Time) (string, error) {
	text, err := source.Resolve()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrToken, err)
	}
	text = strings.TrimSpace(text)
	expires, err := expiry(text)
	if err != nil {
		return "", fmt.Errorf("%w: what is in %v is not a JSON web token: %w", ErrToken, source, err)
	}
	if !now.Before(expires) {
		return "", fmt.Errorf("%w: the one in %v expired at %s: see that whatever renews it runs, and that the clocks agree",
			ErrToken, source, expires.UTC().Format(time.RFC3339))
	}
	return text, nil
}

// expiry reads the end of a token's time. The token is not verified here: the
// certificate authority does that.
func expiry(text string) (time.Time, error) {
	if len(text) > maxToken {
		return time.Time{}, fmt.Errorf("it has more than %d bytes", maxToken)
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return time.Time{}, fmt.Errorf("it has %d parts instead of three", len(parts))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}, errors.New("its second part is not base64")
	}
	var claims struct {
		Expires json.Number `json:"exp"`
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return time.Time{}, errors.New("its claims are not JSON")
	}
	seconds, err := claims.Expires.Float64()
	if err != nil || seconds <= 0 || seconds > 1<<40 {
		return time.Time{}, errors.New("it does not say when it expires")
	}
	return time.Unix(int64(seconds), 0), nil
}
