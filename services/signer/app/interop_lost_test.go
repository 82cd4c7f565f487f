package app_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/signer/app"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/kmstest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstoretest"
)

// TestInterop_LostAnswers: the real Rekor v2 takes every entry in and its answer gets
// lost, for a key of the key store, for an RSA key of a KMS and keyless. The next attempt
// finds the entry: of each type and identity there is one attestation, and one entry.
func TestInterop_LostAnswers(t *testing.T) {
	s := sigstoretest.Real(t)
	relay := s.RelayRekor(t)
	cosign := newCosigner(t)
	rsaKey := kmstest.New(t).RotateRSA(t, 3072)
	f := newFleet(t)
	f.useSigstore(s, app.WitnessLog, app.WitnessTimestamp)
	f.cfg.Identities = append(f.cfg.Identities, app.IdentityConfig{
		Name: kmsName, Type: app.TypeKMS, Key: kmstest.URI, Witnesses: []string{app.WitnessLog, app.WitnessTimestamp},
	})
	f.cfg.Sigstore.Rekor.Attempts = 2
	all := int64(len(f.cfg.Identities) * len(evidenceTypes))
	relay.Lose(all)
	f.start()
	image := f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	if n := len(f.nextAttested().GetPlatforms()[0].GetAttestations()); int64(n) != all {
		t.Errorf("%d attestations", n)
	}
	if relay.Lost() != all || relay.Duplicates() != all || relay.Entries() != all {
		t.Errorf("of %d: %d answers were lost, %d entries were there already, %d entries", all, relay.Lost(), relay.Duplicates(), relay.Entries())
	}
	checkEntries(t, f, image, int(all))

	root := filepath.Join(cosign.home, "trusted_root.json")
	if err := os.WriteFile(root, []byte(f.trustBundle().GetTrustedRootJson()), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := f.trustBundle().GetKeys()
	if n := len(keys); n != 2 || !slices.ContainsFunc(keys, func(k *signerv1.TrustedKey) bool { return k.GetKeyId() == attest.KeyID(rsaKey) }) {
		t.Errorf("%d keys: %v", n, keys)
	}
	for _, key := range keys {
		file := filepath.Join(cosign.home, key.GetKeyId()+".pub")
		if err := os.WriteFile(file, []byte(key.GetPublicKeyPem()), 0o600); err != nil {
			t.Fatal(err)
		}
		cosignReads(t, cosign, image, "--key", file, "--trusted-root", root, "--use-signed-timestamps")
	}
	cosignReads(t, cosign, image, keylessFlags(s.URL, certified, root)...)
}

func cosignReads(t *testing.T, cosign *cosigner, image imageref.Ref, flags ...string) {
	t.Helper()
	for _, predicateType := range evidenceTypes {
		if out, err := cosign.verify(image, predicateType, flags...); err != nil || !strings.Contains(out, `"payload"`) {
			t.Errorf("cosign %s refuses %s: %v\n%s", flags, predicateType, err, out)
		}
	}
}

// checkEntries checks that there are so many attestations, each with an entry of its own,
// and no dead letter.
func checkEntries(t *testing.T, f *fleet, image imageref.Ref, want int) {
	t.Helper()
	indexes := map[int64]bool{}
	for _, v := range f.registry.Attestations(image, f.roots()) {
		if v.LogIndex == nil {
			t.Errorf("%s by %q is in no log", v.PredicateType, v.KeyID)
			continue
		}
		indexes[*v.LogIndex] = true
	}
	if len(indexes) != want {
		t.Errorf("entries %v, want %d", slices.Sorted(maps.Keys(indexes)), want)
	}
	if n := len(f.logged(image)); n != want {
		t.Errorf("%d rows in the signing log, want %d", n, want)
	}
	if letters := f.deadLetters(); len(letters) != 0 {
		t.Errorf("dead letters: %v", letters)
	}
}

// TestInterop_LostAnswersAcrossDeliveries: every delivery of the event has one attempt, and
// the answers to the first entries get lost. An RSA key signs the same way each time, so
// that the log has the entries when the event comes again: they are found.
func TestInterop_LostAnswersAcrossDeliveries(t *testing.T) {
	s := sigstoretest.Real(t)
	relay := s.RelayRekor(t)
	kmstest.New(t).RotateRSA(t, 2048)
	f := newFleet(t)
	f.Config.MaxDeliver = 1000
	f.useSigstore(s, app.WitnessLog)
	f.cfg.Identities = []app.IdentityConfig{{Name: kmsName, Type: app.TypeKMS, Key: kmstest.URI, Witnesses: []string{app.WitnessLog}}}
	f.cfg.Sigstore.Rekor.Attempts, f.cfg.Sigstore.Rekor.Cooldown = 1, time.Second
	all := int64(len(evidenceTypes))
	relay.Lose(all)
	f.start()
	image := f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	f.nextAttested()
	if relay.Lost() == 0 || relay.Duplicates() < relay.Lost() || relay.Entries() != all {
		t.Errorf("of %d: %d answers were lost, %d entries were there already, %d entries", all, relay.Lost(), relay.Duplicates(), relay.Entries())
	}
	checkEntries(t, f, image, int(all))
}
