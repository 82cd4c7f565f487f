package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// lineOfEachIdentity: what one identity signs supersedes nothing of another, and
// both know what is in the registry.
func lineOfEachIdentity(t *testing.T, s store.Store) {
	t.Helper()
	plain := entry(1)
	index := int64(0)
	keyless := entry(1)
	keyless.Identity, keyless.KeyID = "ci", "signer@seaworthy.test"
	keyless.LogIndex, keyless.ProvenTime = &index, epoch.Add(time.Second)
	keyless = reset(keyless)
	if plain.ID == keyless.ID {
		t.Fatal("the identity does not tell entries apart")
	}
	for i, e := range []store.Entry{plain, keyless} {
		begin(t, s, e)
		if err := s.Finish(t.Context(), []store.Finished{{ID: e.ID, ManifestDigest: digest(90 + i)}}, epoch); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []store.Entry{plain, keyless} {
		got, err := s.Current(t.Context(), want.Line)
		if err != nil {
			t.Fatal(err)
		}
		want.ManifestDigest, want.DoneTime, want.Manifest = digest(90+i), epoch, nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Current() (-want +got):\n%s", diff)
		}
		known, err := s.Known(t.Context(), want.Line)
		if err != nil || !known[digest(90)] || !known[digest(91)] {
			t.Errorf("Known() = %v, %v", known, err)
		}
	}
	later := entry(2)
	begin(t, s, later)
	if err := s.Finish(t.Context(), []store.Finished{{ID: later.ID, ManifestDigest: digest(92)}}, epoch); err != nil {
		t.Fatal(err)
	}
	old, err := s.Superseded(t.Context(), epoch.Add(time.Hour), "", 10)
	if err != nil || len(old) != 1 || old[0].ID != plain.ID {
		t.Errorf("superseded: %v, %v", old, err)
	}
}

// keysOfOthers: a rotation is of the key store alone.
func keysOfOthers(t *testing.T, s store.Store) {
	t.Helper()
	kms := store.SigningKey{ID: "kms", PublicPEM: "pem", SeenTime: epoch, Identity: "hardware"}
	for _, k := range []store.SigningKey{kms, {ID: "own", PublicPEM: "pem", SeenTime: epoch}} {
		if err := s.AddKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Rotate(t.Context(), "r", store.SigningKey{ID: "new", PublicPEM: "pem", SeenTime: epoch}, epoch.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	all, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inUse := map[string]bool{}
	for _, k := range all {
		inUse[k.ID] = k.InUse()
		if k.ID == "kms" {
			if diff := cmp.Diff(kms, k); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
	}
	if diff := cmp.Diff(map[string]bool{"kms": true, "own": false, "new": true}, inUse); diff != "" {
		t.Errorf("in use (-want +got):\n%s", diff)
	}
}
