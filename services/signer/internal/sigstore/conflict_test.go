package sigstore_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstore"
)

// start serves the log and opens a client of it, whose attempts last so long.
func (l *tiled) start(timeout time.Duration) *sigstore.Client {
	l.t.Helper()
	server := httptest.NewServer(l)
	l.t.Cleanup(server.Close)
	public := l.key.Public()
	_, id, err := note.KeyHash(origin, public)
	if err != nil {
		l.t.Fatal(err)
	}
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, nil, nil, nil, map[string]*root.TransparencyLog{"log": {
		BaseURL: "https://" + origin, ID: id, HashFunc: crypto.SHA256, PublicKey: public, SignatureHashFunc: crypto.SHA256,
		ValidityPeriodStart: time.Now().Add(-time.Hour),
	}})
	if err != nil {
		l.t.Fatal(err)
	}
	return open(l.t, server.URL, 2, trusted, guard.Limits{Timeout: timeout, Attempts: 2, MaxFailures: 3, Cooldown: time.Hour})
}

const someImage = "sha256:abababababababababababababababababababababababababababababababab"

// add signs something and has the log's client add its entry. It returns the number of the
// entry that a reader believes.
func add(t *testing.T, c *sigstore.Client) (int64, error) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.LoadSigner(key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := attest.NewPayload(attest.Statement{
		Subject: []attest.Subject{{SHA256: strings.TrimPrefix(someImage, "sha256:")}}, PredicateType: attest.PredicateVulnsV02, Predicate: json.RawMessage(`{}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	draft, err := attest.SignPayload(t.Context(), signer, key.Public(), payload)
	if err != nil {
		t.Fatal(err)
	}
	var b *protobundle.Bundle
	if b, err = draft.Proto(); err != nil {
		t.Fatal(err)
	}
	public, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Witness(true, false).Add(t.Context(), b, public); err != nil {
		if n := len(b.GetVerificationMaterial().GetTlogEntries()); n != 0 {
			t.Errorf("%d entries in the bundle", n)
		}
		return 0, err
	}
	raw, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	v, err := attest.Verify(raw, someImage, attest.TrustRoots{Sigstore: c.Root(), Keys: []attest.TrustedKey{{Key: key.Public(), RequireLog: true}}})
	if err != nil || v.LogIndex == nil {
		t.Fatalf("%+v, %v", v, err)
	}
	return *v.LogIndex, nil
}

// An entry that a Rekor v2 has already is proven from its tiles, wherever it stands.
func TestConflictOfRekorV2(t *testing.T) {
	for name, tc := range map[string]struct {
		index, size, stored int64
		edit                func(l *tiled, path string, a *edited)
	}{
		"the only one":         {0, 1, 1, nil},
		"the last of a tile":   {255, 256, 256, nil},
		"the first of a tile":  {256, 257, 257, nil},
		"in the middle":        {300, 1000, 1000, nil},
		"below three levels":   {1234, 65536 + 300, 65536 + 300, nil},
		"the last of three":    {65536, 65537, 65537, nil},
		"by the words alone":   {3, 9, 9, func(_ *tiled, _ string, a *edited) { delete(a.header, "X-Log-Index") }},
		"checkpoint comes on":  {8, 9, 9, func(l *tiled, path string, a *edited) { l.lag(path, a) }},
		"unfinished tile gone": {20, 40, 256, func(_ *tiled, path string, a *edited) { gone(path, a) }},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTiled(t, tc.index, tc.size)
			l.stored = tc.stored
			if tc.edit != nil {
				l.edit = func(path string, a *edited) { tc.edit(l, path, a) }
			}
			if got, err := add(t, l.start(20*time.Second)); err != nil || got != tc.index {
				t.Errorf("entry %d, %v", got, err)
			}
			if n := l.asked["log/entries"]; n != 1 {
				t.Errorf("posted %d times", n)
			}
		})
	}
}

// lag has the first checkpoint be one from before the entry.
func (l *tiled) lag(path string, a *edited) {
	if path == "checkpoint" && l.asked[path] == 1 {
		a.body, _ = l.checkpoint(origin, l.key, l.index)
	}
}

func gone(path string, a *edited) {
	if strings.Contains(path, ".p/") {
		a.status = http.StatusNotFound
	}
}

// What a log does not prove is an error that says what is wrong, and no entry. Where
// another attempt cannot help, there is none.
func TestConflictOfRekorV2NotProven(t *testing.T) {
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint := func(change func(l *tiled) ([]byte, error)) func(*tiled, string, *edited) {
		return func(l *tiled, path string, a *edited) {
			if path == "checkpoint" {
				var err error
				if a.body, err = change(l); err != nil {
					l.t.Error(err)
				}
			}
		}
	}
	text := func(s string) func(*tiled) ([]byte, error) {
		return func(l *tiled) ([]byte, error) { return signed(l.t, origin, l.key, s) }
	}
	tile := func(change func(a *edited)) func(*tiled, string, *edited) {
		return func(_ *tiled, path string, a *edited) {
			if strings.HasPrefix(path, "tile/") {
				change(a)
			}
		}
	}
	index := func(header, words string) func(*tiled, string, *edited) {
		return func(_ *tiled, path string, a *edited) {
			if path == "log/entries" {
				a.header["X-Log-Index"], a.body = header, []byte(words)
			}
		}
	}
	for name, tc := range map[string]struct {
		edit  func(*tiled, string, *edited)
		says  string
		posts int // attempts
	}{
		"no index":                {index("", `{"message":"conflict"}`), "neither X-Log-Index nor", 1},
		"index is no number":      {index("first", ""), `invalid index "first"`, 1},
		"index is negative":       {index("-1", ""), `invalid index "-1"`, 1},
		"index is too large":      {index("9223372036854775808", ""), "invalid index", 1},
		"index in words too":      {index("", "already exists in the transparency log with index 99999999999999999999"), "invalid index", 1},
		"entry of somebody else":  {index("41", ""), "as number 41: what stands there is another entry", 1},
		"index out of the tree":   {index("700", ""), "its checkpoint has 600 entries", 2},
		"index far out":           {index("9223372036854775807", ""), "its checkpoint has 600 entries", 2},
		"checkpoint is garbage":   {checkpoint(func(*tiled) ([]byte, error) { return []byte("\x00garbage"), nil }), "no log of sigstore.trusted_root is", 1},
		"checkpoint is empty":     {checkpoint(func(*tiled) ([]byte, error) { return nil, nil }), `no log of sigstore.trusted_root is ""`, 1},
		"checkpoint of another":   {checkpoint(func(l *tiled) ([]byte, error) { return l.checkpoint("other.test", l.key, l.size) }), `"other.test"`, 1},
		"checkpoint by a thief":   {checkpoint(func(l *tiled) ([]byte, error) { return l.checkpoint(origin, stranger, l.size) }), "checkpoint: unverified checkpoint signature", 1},
		"checkpoint is no one":    {checkpoint(text(origin + "\nmany\nhash\n")), "its checkpoint:", 1},
		"checkpoint without hash": {checkpoint(text(origin + "\n600\nAAAA\n")), "600 entries and a hash of 3 bytes", 1},
		"checkpoint of too many":  {checkpoint(func(l *tiled) ([]byte, error) { return l.checkpoint(origin, l.key, 1<<49) }), "562949953421312 entries", 1},
		"checkpoint is too long":  {checkpoint(func(*tiled) ([]byte, error) { return make([]byte, 64<<10+1), nil }), "more than 65536 bytes", 1},
		"checkpoint not there": {func(_ *tiled, path string, a *edited) {
			if path == "checkpoint" {
				a.status, a.body = http.StatusNotFound, []byte("nothing here")
			}
		}, `/api/v2/checkpoint: 404 Not Found: "nothing here"`, 1},
		"nobody serves the files": {func(_ *tiled, path string, a *edited) {
			if path == "checkpoint" {
				a.status, a.body = http.StatusNotImplemented, nil
			}
		}, "/api/v2/checkpoint: 501", 2},
		"tile not there":    {tile(func(a *edited) { a.status = http.StatusNotFound }), "404 Not Found", 1},
		"tile fails":        {tile(func(a *edited) { a.status = http.StatusBadGateway }), "502 Bad Gateway", 2},
		"tile is another":   {tile(func(a *edited) { a.body[5] ^= 1 }), "its tiles are not those of its checkpoint", 1},
		"tile is too short": {tile(func(a *edited) { a.body = a.body[:40] }), "has 40 bytes, want", 1},
		"tile is too long":  {tile(func(a *edited) { a.body = append(a.body, 0) }), "answers more than", 1},
		"tile is huge":      {tile(func(a *edited) { a.body = bytes.Repeat([]byte("x"), 1<<20) }), "answers more than", 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTiled(t, 42, 600)
			l.edit = func(path string, a *edited) { tc.edit(l, path, a) }
			// There is no time to wait for another checkpoint.
			got, err := add(t, l.start(400*time.Millisecond))
			if !errors.Is(err, sigstore.ErrConflict) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("entry %d, %v", got, err)
			}
			if n := l.asked["log/entries"]; n != tc.posts {
				t.Errorf("posted %d times, want %d", n, tc.posts)
			}
		})
	}
}

// A log that says it has the entry, and never publishes it, holds nobody past the deadline.
func TestConflictOfRekorV2NeverPublished(t *testing.T) {
	l := newTiled(t, 5, 5)
	l.stored = 6
	const timeout = 1200 * time.Millisecond
	c := l.start(timeout)
	start := time.Now()
	_, err := add(t, c)
	if took := time.Since(start); took > 2*timeout+10*time.Second || took < timeout-checkpointPause {
		t.Errorf("took %v", took)
	}
	if !errors.Is(err, sigstore.ErrConflict) || !strings.Contains(err.Error(), "its checkpoint has 5 entries") {
		t.Error(err)
	}
	if n := l.asked["checkpoint"]; n < 4 {
		t.Errorf("asked %d times for a checkpoint", n)
	}
}

// checkpointPause is how long the client waits for the next checkpoint.
const checkpointPause = 500 * time.Millisecond
