package trust

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/verdict/trustbundle"
)

// TestRevokedStaysRevoked: the signer's database and directory are both restored from
// before a revocation, so its bundle calls the key valid again, or does not list it.
func TestRevokedStaysRevoked(t *testing.T) {
	t.Parallel()
	before := bundle(t, 2)
	id := before.GetKeys()[0].GetKeyId()
	after := proto.CloneOf(before)
	after.Keys[0].RevokeTime = timestamppb.New(time.Unix(1000, 0))
	without := &signerv1.GetTrustBundleResponse{Keys: before.GetKeys()[1:]}
	sign, kept := &signer{}, &memory{}
	var ready error
	options := Options{Bundles: sign, Cache: kept, Report: func(err error) { ready = err }}
	fetch := func(s *Source, b *signerv1.GetTrustBundleResponse) error {
		sign.set(b, nil)
		err := s.fetch(t.Context())
		s.tell()
		return err
	}
	check := func(name string, s *Source, want bool) {
		t.Helper()
		roots, _, err := s.Roots()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range roots.Keys {
			if attest.KeyID(k.Key) == id && k.Revoked.IsZero() == want {
				t.Errorf("%s: revoked %t, want %t", name, !k.Revoked.IsZero(), want)
			}
		}
	}
	s := newSource(t, options)
	for _, step := range []struct {
		name    string
		bundle  *signerv1.GetTrustBundleResponse
		revoked bool
		revived bool
	}{{"before", before, false, false}, {"revoked", after, true, false}, {"restored", before, true, true}, {"revoked again", after, true, false}, {"restored again", before, true, true}} {
		if err := fetch(s, step.bundle); err != nil {
			t.Fatal(err)
		}
		check(step.name, s, step.revoked)
		if got := errors.Is(ready, errRevived); got != step.revived {
			t.Errorf("%s: readiness says %v", step.name, ready)
		}
	}
	// After a restart, with the bundle that calls the key valid in the database.
	check("restarted", newSource(t, options), true)
	if !errors.Is(ready, errRevived) {
		t.Errorf("after the restart readiness says %v", ready)
	}
	// A key that the configuration names too is trusted for nothing, also when the signer no
	// longer lists it.
	roots, err := trustbundle.Roots(before)
	if err != nil {
		t.Fatal(err)
	}
	options.Fixed = attest.TrustRoots{Keys: roots.Keys[:1]}
	fixed := newSource(t, options)
	if err := fetch(fixed, without); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := fixed.Roots(); len(got.Keys) != 1 || attest.KeyID(got.Keys[0].Key) == id {
		t.Errorf("the configuration revives a revoked key: %v", got.Keys)
	}
	// A database that takes nothing delays no revocation.
	second := proto.CloneOf(before)
	second.Keys[1].RevokeTime = timestamppb.New(time.Unix(1000, 0))
	kept.full = true
	if err := fetch(s, second); err == nil {
		t.Error("the revocation was not kept, and no error says so")
	}
	got, _, _ := s.Roots()
	for _, k := range got.Keys {
		if k.Revoked.IsZero() {
			t.Errorf("key %s is not revoked", k.ID)
		}
	}
	// What the database says about revocations has to be readable.
	kept.bodies[sourceRevoked] = []byte("{")
	options.Log, options.Now = s.log, time.Now
	if _, err := New(t.Context(), options); err == nil {
		t.Error("starts without knowing what is revoked")
	}
}
