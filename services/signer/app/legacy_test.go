package app_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/services/signer/app"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/kmstest"
)

// kmsName is what somebody may well call a key elsewhere.
const kmsName = "key-store"

// signAsTwo has the signer sign with its key store and with a key in a KMS, for old
// readers too, what it finds at two scans of an image. The second finds more.
func signAsTwo(t *testing.T) (f *fleet, image imageref.Ref) {
	t.Helper()
	kmstest.New(t)
	f = newFleet(t)
	f.cfg.Registry.LegacyAttTag = true
	f.cfg.Identities = []app.IdentityConfig{
		{Name: "keys", Type: app.TypeKey},
		{Name: kmsName, Type: app.TypeKMS, Key: kmstest.URI},
	}
	f.start()
	image = f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	f.nextAttested()
	e := f.scanned("scan-2", image, image)
	f.fakes.set(func(k *fakes) {
		scan := k.scans["scan-2"]
		scan.EndTime = timestamppb.New(scan.GetEndTime().AsTime().Add(time.Hour))
		scan.Reports[0].Findings[0].CvssScore = 9
		e.Platforms[0].ReportDigest = core.Digest(canonical(t, scan.GetReports()[0]))
	})
	f.publish(events.Scanner, "2", e)
	if n := len(f.nextAttested().GetPlatforms()[0].GetAttestations()); n != 2*len(evidenceTypes) {
		t.Errorf("%d attestations are in force", n)
	}
	return f, image
}

// TestSigner_OldReadersFindEveryIdentity: of each predicate type one layer by each
// identity, with what it signed last.
func TestSigner_OldReadersFindEveryIdentity(t *testing.T) {
	f, image := signAsTwo(t)
	repo := imageref.Ref{Registry: image.Registry, Repository: image.Repository}
	tagged := repo
	tagged.Tag = strings.Replace(image.Digest, ":", "-", 1) + ".att"
	_, raw, err := f.registry.Client().Manifest(t.Context(), tagged)
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Layers []registry.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Layers) != 2*len(evidenceTypes) {
		t.Errorf("%d layers", len(m.Layers))
	}
	by := map[string][]string{}
	for _, l := range m.Layers {
		envelope, err := f.registry.Client().ReadBlob(t.Context(), repo, l, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		var e struct{ Payload string }
		if err := json.Unmarshal(envelope, &e); err != nil {
			t.Fatal(err)
		}
		payload, err := base64.StdEncoding.DecodeString(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		var st struct{ PredicateType string }
		if err := json.Unmarshal(payload, &st); err != nil {
			t.Fatal(err)
		}
		if st.PredicateType == attest.PredicateCosignVuln && !strings.Contains(string(payload), `"cvssScore":9`) {
			t.Error("an old report is still there")
		}
		who := l.Annotations["dev.seaworthy.signer/identity"]
		by[who] = append(by[who], st.PredicateType)
	}
	for _, who := range []string{"", kmsName} {
		if !slices.Equal(sorted(by[who]), sorted(evidenceTypes)) {
			t.Errorf("%q signed %v", who, by[who])
		}
	}
}

// TestInterop_OldReadersOfTwoIdentities has cosign read the form of before bundles
// with the public key of each identity, and refuse it with that of nobody.
func TestInterop_OldReadersOfTwoIdentities(t *testing.T) {
	cosign := newCosigner(t)
	f, image := signAsTwo(t)
	keys := f.trustBundle().GetKeys()
	if len(keys) != 2 {
		t.Fatalf("keys = %v", keys)
	}
	file := func(name, text string) string {
		path := filepath.Join(cosign.home, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old := []string{"--new-bundle-format=false", "--insecure-ignore-tlog=true"}
	if _, err := keystore.Open(cosign.home, []byte("password"), true); err != nil {
		t.Fatal(err)
	}
	stranger := filepath.Join(cosign.home, keystore.PublicFile)
	short := map[string]string{core.PredicateSPDX: "spdxjson", core.PredicateCosignVuln: "vuln"}
	for _, predicateType := range evidenceTypes {
		name := predicateType
		if s, ok := short[predicateType]; ok {
			name = s
		}
		for i, k := range keys {
			key := file("key"+string(rune('0'+i))+".pub", k.GetPublicKeyPem())
			out, err := cosign.verify(image, name, append([]string{"--key", key}, old...)...)
			if err != nil || strings.Count(out, `"payload"`) != 1 {
				t.Errorf("cosign refuses %s with the key %s: %v\n%s", predicateType, k.GetKeyId(), err, out)
			}
		}
		if out, err := cosign.verify(image, name, append([]string{"--key", stranger}, old...)...); err == nil {
			t.Errorf("cosign accepts %s with another key:\n%s", predicateType, out)
		}
	}
}
