package record_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
)

func TestPack(t *testing.T) {
	t.Parallel()
	d, err := record.Pack([]byte("hello"))
	if err != nil || d.Digest != "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" {
		t.Fatalf("%+v, %v", d, err)
	}
	if got, err := record.Unpack(d); err != nil || string(got) != "hello" {
		t.Errorf("unpack: %q, %v", got, err)
	}
	other, err := record.Pack([]byte("other"))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]record.Document{
		"other content": {Digest: d.Digest, Packed: other.Packed},
		"no gzip":       {Digest: d.Digest, Packed: []byte("hello")},
		"cut off":       {Digest: d.Digest, Packed: d.Packed[:len(d.Packed)-3]},
		"nothing":       {Digest: d.Digest},
	} {
		if _, err := record.Unpack(bad); !errors.Is(err, record.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := record.Pack(make([]byte, record.MaxDocument+1)); err == nil {
		t.Error("a document over the limit was packed")
	}
	if bomb, err := record.Pack(bytes.Repeat([]byte("a"), 1<<20)); err != nil || len(bomb.Packed) > 1<<16 {
		t.Errorf("not packed: %d bytes, %v", len(bomb.Packed), err)
	}
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	signed := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	e := core.PlatformEvidence{Digest: "sha256:x", Report: &core.Report{Source: core.Attestation{SignTime: signed}}}
	d, err := record.PackEvidence(e)
	if err != nil {
		t.Fatal(err)
	}
	got, err := record.UnpackEvidence(d)
	if diff := cmp.Diff(e, got); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	// A time that changes nothing makes no other document; one that does, does.
	e.NotBefore = signed
	if same, err := record.PackEvidence(e); err != nil || same.Digest != d.Digest {
		t.Errorf("with the report judged before: %s, %v", same.Digest, err)
	}
	e.NotBefore = signed.Add(1)
	if other, err := record.PackEvidence(e); err != nil || other.Digest == d.Digest {
		t.Errorf("with a newer report judged before: %s, %v", other.Digest, err)
	}
	unknown, err := record.Pack([]byte(`{"Digest":"sha256:x","Novelty":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := record.UnpackEvidence(unknown); !errors.Is(err, record.ErrDamaged) {
		t.Errorf("evidence with an unknown field: %v", err)
	}
}
