// Package page is list paging as the APIs promise it: page sizes with a
// default and a limit, and opaque tokens that are bound to the query they
// continue. A token carries the key of the last row, so paging is stable while
// rows come and go.
package page

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
)

const (
	// DefaultSize is the page size of a request that gives 0.
	DefaultSize = 100
	// MaxSize is the largest page; larger requests get MaxSize.
	MaxSize = 1000
	// MaxBytes of messages end a page before it is full, far below the largest message.
	MaxBytes = 4 << 20
	// MaxToken bounds the text of a token, in bytes.
	MaxToken = 4096
	// ReasonInvalidPageToken is the reason of a token that Decode refuses.
	ReasonInvalidPageToken = "INVALID_PAGE_TOKEN"
)

const (
	tokenVersion = 1
	bindingSize  = 16
)

// Size is the page size to use for a requested one: 0 or less = DefaultSize,
// more than MaxSize = MaxSize. Use CheckSize on requests from outside.
func Size(n int32) int {
	switch {
	case n <= 0:
		return DefaultSize
	case n > MaxSize:
		return MaxSize
	default:
		return int(n)
	}
}

// CheckSize is Size, with an INVALID_ARGUMENT [apierr.Error] for a negative size.
func CheckSize(n int32) (int, error) {
	if n < 0 {
		return 0, apierr.InvalidField("page_size", "must not be negative")
	}
	return Size(n), nil
}

// Fit is how many of the messages make a page: at most size of at most MaxBytes
// together, but one of whatever size.
func Fit[M proto.Message](messages []M, size int) int {
	bytes := 0
	for i, m := range messages {
		bytes += proto.Size(m)
		if i == size || i > 0 && bytes > MaxBytes {
			return i
		}
	}
	return len(messages)
}

// Encode makes the token of the page after key. The query is any text that
// says what is listed (filters and order); the token is good only for it. An
// empty key means that there is no further page and gives the empty token.
func Encode(query, key string) string {
	if key == "" {
		return ""
	}
	b := make([]byte, 0, 1+bindingSize+len(key))
	b = append(b, tokenVersion)
	b = append(b, binding(query)...)
	b = append(b, key...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// Decode returns the key of a token, "" for the empty token (the first page).
// The error is an INVALID_ARGUMENT [apierr.Error] if the token is damaged or
// belongs to another query. The key is outside input: a token is bound to its
// query, not signed.
func Decode(query, token string) (key string, err error) {
	if token == "" {
		return "", nil
	}
	if len(token) > MaxToken {
		return "", invalid(fmt.Errorf("token of %d bytes exceeds the limit of %d", len(token), MaxToken))
	}
	// The decoder would pass over line breaks, and one page would have many tokens.
	if strings.ContainsAny(token, "\r\n") {
		return "", invalid(errors.New("token has a line break"))
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return "", invalid(err)
	}
	if len(b) <= 1+bindingSize || b[0] != tokenVersion {
		return "", invalid(errors.New("token is too short or of another version"))
	}
	if string(b[1:1+bindingSize]) != string(binding(query)) {
		return "", invalid(errors.New("token belongs to another query"))
	}
	return string(b[1+bindingSize:]), nil
}

func binding(query string) []byte {
	sum := sha256.Sum256([]byte("seaworthy page token\x00" + query))
	return sum[:bindingSize]
}

func invalid(cause error) error {
	const text = "is not a token of this list with these filters"
	return apierr.New(codes.InvalidArgument, ReasonInvalidPageToken, "page_token: "+text).
		WithViolation("page_token", text).WithCause(cause)
}
