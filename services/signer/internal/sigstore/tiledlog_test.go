package sigstore_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekortilespb "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/rekor-tiles/v2/pkg/types/hashedrekord"
	"github.com/sigstore/sigstore/pkg/signature"
	sumdbnote "golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/encoding/protojson"
)

// origin is the log's name.
const origin = "rekor.seaworthy.test"

// tiled is Rekor v2 that has every entry already: what is posted stands at an index
// among other entries. It may lie.
type tiled struct {
	t   *testing.T
	key ed25519.PrivateKey
	// index is where the posted entry stands, size the checkpoint's number of entries,
	// stored how many there are by now.
	index, size, stored int64
	// edit changes an answer: path is what was asked for below the root of the API.
	edit func(path string, a *edited)

	mu sync.Mutex
	// asked is how often each path was.
	asked  map[string]int
	hashes []tlog.Hash
}

var errBeyond = errors.New("there is no such hash")

// edited is an answer.
type edited struct {
	status int
	header map[string]string
	body   []byte
}

func newTiled(t *testing.T, index, size int64) *tiled {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &tiled{t: t, key: key, index: index, size: size, stored: size, asked: map[string]int{}}
}

// ReadHashes implements tlog.HashReader.
func (l *tiled) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x >= int64(len(l.hashes)) {
			return nil, errBeyond
		}
		out[i] = l.hashes[x]
	}
	return out, nil
}

func (l *tiled) fill(posted []byte) error {
	l.hashes = nil
	for n := range l.stored {
		entry := fmt.Appendf(nil, "entry %d", n)
		if n == l.index {
			entry = posted
		}
		more, err := tlog.StoredHashes(n, entry, l)
		if err != nil {
			return err
		}
		l.hashes = append(l.hashes, more...)
	}
	return nil
}

// entry is what the real server writes down; it verifies the signature.
func entry(body io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var request rekortilespb.CreateEntryRequest
	if err := protojson.Unmarshal(raw, &request); err != nil {
		return nil, err
	}
	algorithms, err := signature.NewAlgorithmRegistryConfig([]protocommon.PublicKeyDetails{protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256})
	if err != nil {
		return nil, err
	}
	e, err := hashedrekord.ToLogEntry(request.GetHashedRekordRequestV002(), algorithms)
	if err != nil {
		return nil, err
	}
	if raw, err = protojson.Marshal(e); err != nil {
		return nil, err
	}
	return jsoncanonicalizer.Transform(raw)
}

func (l *tiled) checkpoint(name string, key ed25519.PrivateKey, size int64) ([]byte, error) {
	sum, err := tlog.TreeHash(min(size, l.stored), l)
	if err != nil {
		return nil, err
	}
	return signed(l.t, name, key, fmt.Sprintf("%s\n%d\n%s\n", name, size, base64.StdEncoding.EncodeToString(sum[:])))
}

func signed(tb testing.TB, name string, key ed25519.PrivateKey, text string) ([]byte, error) {
	tb.Helper()
	s, err := signature.LoadED25519Signer(key)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewNoteSigner(tb.Context(), name, s)
	if err != nil {
		return nil, err
	}
	return sumdbnote.Sign(&sumdbnote.Note{Text: text}, signer)
}

// ServeHTTP implements http.Handler.
func (l *tiled) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/api/v2/")
	a := edited{status: http.StatusOK, header: map[string]string{}}
	var err error
	switch path {
	case "log/entries":
		var posted []byte
		if posted, err = entry(r.Body); err == nil {
			err = l.fill(posted)
		}
		a.status = http.StatusConflict
		a.header["X-Log-Index"] = strconv.FormatInt(l.index, 10)
		a.body, _ = json.Marshal(map[string]any{
			"code": 6, "message": fmt.Sprintf("an equivalent entry already exists in the transparency log with index %d", l.index),
		})
	case "checkpoint":
		a.body, err = l.checkpoint(origin, l.key, l.size)
	default:
		var tile tlog.Tile
		if tile, err = tlog.ParseTilePath("tile/8/" + strings.TrimPrefix(path, "tile/")); err == nil {
			a.body, err = tlog.ReadTileData(tile, l)
		}
	}
	switch {
	case errors.Is(err, errBeyond):
		a.status = http.StatusNotFound
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	l.asked[path]++
	if l.edit != nil {
		l.edit(path, &a)
	}
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}
