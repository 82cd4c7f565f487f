package sigstore

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	rekortilespb "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/rekor-tiles/v2/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
)

const (
	// entryKind and entryVersion are those of the entries that are written.
	entryKind, entryVersion = "hashedrekord", "0.0.2"
	// tileHeight is that of the tiles: 256 hashes each.
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	// maxTree bounds the number of entries of a log. It is far from where the
	// numbers of its tiles and hashes overflow.
	maxTree = 1 << 48
	// checkpointPause is how long a log is given to publish the next checkpoint.
	checkpointPause = 500 * time.Millisecond
)

// checkpoint is what a trusted log said about all of its entries.
type checkpoint struct {
	text  string
	logID []byte
	tree  tlog.Tree
}

// prove makes the answer that the log gave or would have given when it took the entry
// in. What the entry says is not asked of the log: it is put together as the log does
// it, and the log has to prove that this is what stands at the index.
func (r *rekorV2) prove(ctx context.Context, request *rekortilespb.HashedRekordRequestV002, index int64) (*protorekor.TransparencyLogEntry, error) {
	body, err := canonical(request)
	if err != nil {
		return nil, guard.Permanent(err)
	}
	at, err := r.covering(ctx, index)
	if err != nil {
		return nil, err
	}
	tiles := &tileReader{ctx: ctx, log: r}
	path, err := tlog.ProveRecord(at.tree.N, index, tlog.TileHashReader(at.tree, tiles))
	if tiles.failed != nil {
		return nil, tiles.failed
	}
	if err != nil {
		return nil, guard.Permanent(fmt.Errorf("its tiles are not those of its checkpoint: %w", err))
	}
	if err := tlog.CheckRecord(path, at.tree.N, at.tree.Hash, index, tlog.RecordHash(body)); err != nil {
		return nil, guard.Permanent(fmt.Errorf("what stands there is another entry: %w", err))
	}
	hashes := make([][]byte, len(path))
	for i := range path {
		hashes[i] = path[i][:]
	}
	return &protorekor.TransparencyLogEntry{
		LogIndex:          index,
		LogId:             &protocommon.LogId{KeyId: at.logID},
		KindVersion:       &protorekor.KindVersion{Kind: entryKind, Version: entryVersion},
		CanonicalizedBody: body,
		InclusionProof: &protorekor.InclusionProof{
			LogIndex: index, RootHash: at.tree.Hash[:], TreeSize: at.tree.N, Hashes: hashes,
			Checkpoint: &protorekor.Checkpoint{Envelope: at.text},
		},
	}, nil
}

// canonical is an entry as it stands in the log.
func canonical(request *rekortilespb.HashedRekordRequestV002) ([]byte, error) {
	algorithm, err := signature.GetAlgorithmDetails(request.GetSignature().GetVerifier().GetKeyDetails())
	if err != nil {
		return nil, err
	}
	raw, err := protojson.Marshal(&rekortilespb.Entry{
		Kind: entryKind, ApiVersion: entryVersion,
		Spec: &rekortilespb.Spec{Spec: &rekortilespb.Spec_HashedRekordV002{HashedRekordV002: &rekortilespb.HashedRekordLogEntryV002{
			Signature: request.GetSignature(),
			Data:      &protocommon.HashOutput{Digest: request.GetDigest(), Algorithm: algorithm.GetProtoHashType()},
		}}},
	})
	if err != nil {
		return nil, err
	}
	return jsoncanonicalizer.Transform(raw)
}

// covering waits for a checkpoint that has the index, as long as there is time: an
// entry gets its place before a checkpoint is signed.
func (r *rekorV2) covering(ctx context.Context, index int64) (*checkpoint, error) {
	for {
		at, err := r.checkpoint(ctx)
		if err != nil {
			return nil, err
		}
		if index < at.tree.N {
			return at, nil
		}
		late := fmt.Errorf("its checkpoint has %d entries", at.tree.N)
		if end, ok := ctx.Deadline(); ok && time.Until(end) < checkpointPause {
			return nil, late
		}
		timer := time.NewTimer(checkpointPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("%w: %w", late, ctx.Err())
		case <-timer.C:
		}
	}
}

// checkpoint reads the newest one and verifies it.
func (r *rekorV2) checkpoint(ctx context.Context) (*checkpoint, error) {
	raw, err := r.get(ctx, r.base.JoinPath("checkpoint"), maxCheckpoint)
	if err != nil {
		return nil, err
	}
	at, err := r.verified(string(raw))
	if err != nil {
		return nil, guard.Permanent(fmt.Errorf("its checkpoint: %w", err))
	}
	return at, nil
}

// verified finds the trusted log whose checkpoint it is. Logs are found by name, which
// need not be where they listen.
func (r *rekorV2) verified(text string) (*checkpoint, error) {
	origin, _, _ := strings.Cut(text, "\n")
	refused := fmt.Errorf("no log of sigstore.trusted_root is %.100q", origin)
	for _, known := range r.trusted {
		if u, err := url.Parse(known.BaseURL); err != nil || u.Hostname() != origin {
			continue
		}
		_, id, err := note.KeyHash(origin, known.PublicKey)
		if err != nil {
			refused = err
			continue
		}
		key, err := signature.LoadVerifier(known.PublicKey, known.SignatureHashFunc)
		if err != nil {
			refused = err
			continue
		}
		verifier, err := note.NewNoteVerifier(origin, key)
		if err != nil {
			refused = err
			continue
		}
		said, err := verify.VerifyCheckpoint(text, verifier)
		if err != nil {
			refused = err
			continue
		}
		at := &checkpoint{text: text, logID: id}
		if said.Size > maxTree || len(said.Hash) != len(at.tree.Hash) {
			return nil, fmt.Errorf("%d entries and a hash of %d bytes", said.Size, len(said.Hash))
		}
		at.tree.N = int64(said.Size)
		copy(at.tree.Hash[:], said.Hash)
		return at, nil
	}
	return nil, refused
}

// tileReader is a tlog.TileReader.
type tileReader struct {
	ctx context.Context //nolint:containedctx // tlog has none; it lives as long as the proof
	log *rekorV2
	// failed is why a tile could not be read: other errors are about what was read.
	failed error
}

// Height implements tlog.TileReader.
func (*tileReader) Height() int { return tileHeight }

// SaveTiles implements tlog.TileReader: there is nothing that would use them again.
func (*tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

// ReadTiles implements tlog.TileReader. A proof takes two tiles of each level at most.
func (t *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, tile := range tiles {
		if out[i], t.failed = t.log.tile(t.ctx, tile); t.failed != nil {
			return nil, t.failed
		}
	}
	return out, nil
}

// tile reads one tile. Logs may drop an unfinished one when the whole is there.
func (r *rekorV2) tile(ctx context.Context, tile tlog.Tile) ([]byte, error) {
	size := tile.W * tlog.HashSize
	raw, err := r.get(ctx, r.tileURL(tile), size)
	if tile.W < tileWidth && errors.As(err, new(notFoundError)) {
		whole := tile
		whole.W = tileWidth
		raw, err = r.get(ctx, r.tileURL(whole), tileWidth*tlog.HashSize)
	}
	if err != nil {
		return nil, err
	}
	if len(raw) < size {
		return nil, guard.Permanent(fmt.Errorf("%s has %d bytes, want %d", r.tileURL(tile), len(raw), size))
	}
	return raw[:size], nil
}

// tileURL is where a tile is: as in a tlog.Tile's path, without the height.
func (r *rekorV2) tileURL(tile tlog.Tile) *url.URL {
	return r.base.JoinPath("tile", strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight)))
}
