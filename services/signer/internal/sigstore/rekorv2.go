package sigstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	rekortilespb "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
)

// ErrConflict says that a log has the entry already and that its place there could
// not be proven, so that it is of no use.
var ErrConflict = errors.New("the transparency log has this entry already")

// Limits of what a Rekor v2 answers, in bytes.
const (
	maxEntry      = 1 << 20
	maxCheckpoint = 64 << 10
	maxRefusal    = 4 << 10 // more of it is not read
)

// rekorV2 is the client of a Rekor v2. That of sigstore-go has no answer to a 409,
// for it knows no keys of logs; this one proves the entry that is there already.
type rekorV2 struct {
	// base is the root of the API, where entries are written and tiles are read.
	base *url.URL
	http *http.Client
	// trusted are the logs that are believed.
	trusted map[string]*root.TransparencyLog
}

func newRekorV2(address string, transport http.RoundTripper, trusted map[string]*root.TransparencyLog) (*rekorV2, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	return &rekorV2{base: u.JoinPath("api", "v2"), http: &http.Client{Transport: transport}, trusted: trusted}, nil
}

// Add implements sign.RekorV2Client: it returns the log's entry of the signature,
// the new one or that which was there. Errors that another attempt does not cure are
// permanent for the guard.
func (r *rekorV2) Add(ctx context.Context, entry any) (*protorekor.TransparencyLogEntry, error) {
	request, ok := entry.(*rekortilespb.HashedRekordRequestV002)
	if !ok {
		return nil, guard.Permanent(fmt.Errorf("%T is no entry that this client writes", entry))
	}
	raw, err := protojson.Marshal(&rekortilespb.CreateEntryRequest{
		Spec: &rekortilespb.CreateEntryRequest_HashedRekordRequestV002{HashedRekordRequestV002: request},
	})
	if err != nil {
		return nil, guard.Permanent(err)
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, r.base.JoinPath("log", "entries").String(), bytes.NewReader(raw))
	if err != nil {
		return nil, guard.Permanent(err)
	}
	post.Header.Set("Content-Type", "application/json")
	a, err := r.do(post, maxEntry)
	if err != nil {
		return nil, err
	}
	switch a.status {
	case http.StatusCreated:
		out := &protorekor.TransparencyLogEntry{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(a.body, out); err != nil {
			return nil, fmt.Errorf("%s answers what is no entry: %w", post.URL, err)
		}
		return out, nil
	case http.StatusConflict:
		index, err := placeOf(a.header, a.body)
		if err != nil {
			return nil, guard.Permanent(fmt.Errorf("%w, %s says, and not where: %w", ErrConflict, post.URL, err))
		}
		out, err := r.prove(ctx, request, index)
		if err != nil {
			return nil, fmt.Errorf("%w, %s says, as number %d: %w", ErrConflict, post.URL, index, err)
		}
		return out, nil
	}
	err = a.refusal(post)
	if request.GetSignature().GetVerifier().GetKeyDetails() == protocommon.PublicKeyDetails_PKIX_ED25519_PH {
		err = fmt.Errorf("%w: it takes no plain Ed25519 signatures, give the identity another key or no witness log", err)
	}
	return nil, err
}

// placeHeader names the index in a 409. Servers before it say so in words alone.
const placeHeader = "X-Log-Index"

var placeWords = regexp.MustCompile(`already exists in the transparency log with index ([0-9]{1,20})\b`)

// placeOf takes the index of the entry out of a 409.
func placeOf(header http.Header, body []byte) (int64, error) {
	text := header.Get(placeHeader)
	if text == "" {
		m := placeWords.FindSubmatch(body)
		if m == nil {
			return 0, fmt.Errorf("neither %s nor %.200q has an index", placeHeader, body)
		}
		text = string(m[1])
	}
	index, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("invalid index %.40q", text)
	}
	return int64(index), nil
}

// notFoundError is a 404.
type notFoundError struct{ error }

func (n notFoundError) Unwrap() error { return n.error }

// get reads a file of the log of at most so many bytes.
func (r *rekorV2) get(ctx context.Context, u *url.URL, limit int) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, guard.Permanent(err)
	}
	a, err := r.do(request, limit)
	switch {
	case err != nil:
		return nil, err
	case a.status == http.StatusOK:
		return a.body, nil
	case a.status == http.StatusNotFound:
		return nil, notFoundError{a.refusal(request)}
	}
	return nil, a.refusal(request)
}

// answer is that of a log.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// refusal is an answer that is not what was asked for.
func (a answer) refusal(request *http.Request) error {
	err := fmt.Errorf("%s %s: %d %s: %.300q", request.Method, request.URL, a.status, http.StatusText(a.status), a.body)
	if refused(a.status) {
		return guard.Permanent(err)
	}
	return err
}

func (r *rekorV2) do(request *http.Request, limit int) (answer, error) {
	resp, err := r.http.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	good := resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusCreated
	if !good {
		limit = maxRefusal
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", request.Method, request.URL, err)
	}
	if good && len(body) > limit {
		return answer{}, guard.Permanent(fmt.Errorf("%s %s: answers more than %d bytes", request.Method, request.URL, limit))
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: body}, nil
}
