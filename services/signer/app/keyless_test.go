package app_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/services/signer/app"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstoretest"
)

const certified = "signer@seaworthy.test"

// useSigstore has the signer sign with its key and keyless.
func (f *fleet) useSigstore(s *sigstoretest.Sigstore, witnesses ...string) {
	f.t.Helper()
	f.cfg.Sigstore.SigningConfig, f.cfg.Sigstore.TrustedRoot = s.SigningConfig, s.TrustedRoot
	f.cfg.Identities = []app.IdentityConfig{
		{Name: "keys", Type: app.TypeKey, Witnesses: witnesses},
		{
			Name: "ci", Type: app.TypeKeyless, Witnesses: witnesses, Issuer: s.URL, Subject: certified,
			Token: config.Secret{File: s.TokenFile(f.t, certified, time.Hour)},
		},
	}
	p := &config.Problems{}
	f.cfg.Validate(p)
	if err := p.Err(); err != nil {
		f.t.Fatal(err)
	}
}

// logged is the signing log of an image.
func (f *fleet) logged(image imageref.Ref) []*signerv1.Attestation {
	f.t.Helper()
	c := signerv1.NewAttestationServiceClient(f.dial(tlsx.OperatorID(eventbustest.TrustDomain, "test")))
	resp, err := c.ListAttestations(f.t.Context(), &signerv1.ListAttestationsRequest{Image: &typev1.ImageRef{Digest: image.Digest}})
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.GetAttestations()
}

// checkBoth checks that every claim was signed by the key and keyless.
func (f *fleet) checkBoth(image imageref.Ref, log bool) {
	f.t.Helper()
	by := map[string][]string{}
	for _, v := range f.registry.Attestations(image, f.roots()) {
		by[v.Identity] = append(by[v.Identity], v.PredicateType)
		if v.SignTime.IsZero() || (v.LogIndex != nil) != log {
			f.t.Errorf("%s by %q: proven time %v, log index %v", v.PredicateType, v.Identity, v.SignTime, v.LogIndex)
		}
	}
	for _, who := range []string{"", certified} {
		slices.Sort(by[who])
		if !slices.Equal(by[who], sorted(evidenceTypes)) {
			f.t.Errorf("%q signed %v", who, by[who])
		}
	}
	entries := f.logged(image)
	if len(entries) != 2*len(evidenceTypes) {
		f.t.Errorf("%d entries in the signing log", len(entries))
	}
	for _, e := range entries {
		if keyless := e.GetIdentity() == "ci"; keyless != (e.GetKeyId() == certified) || (e.LogIndex != nil) != log || e.GetProveTime() == nil {
			f.t.Errorf("entry = %v", e)
		}
	}
}

func TestSigner_SignsAsSeveral(t *testing.T) {
	f := newFleet(t)
	f.useSigstore(sigstoretest.Small(t), app.WitnessTimestamp)
	f.start()
	image := f.registry.PushImage("team/app")
	for _, id := range []string{"1", "2"} { // the second adds nothing
		f.publish(events.Scanner, id, f.scanned("scan-"+id, image, image))
		if n := len(f.nextAttested().GetPlatforms()[0].GetAttestations()); n != 2*len(evidenceTypes) {
			t.Errorf("%d attestations", n)
		}
	}
	f.checkBoth(image, false)
	bundle := f.trustBundle()
	if i := bundle.GetIdentities(); len(i) != 1 || i[0].GetName() != "ci" || i[0].GetSubject() != certified || !i[0].GetTimestamp() || i[0].GetLog() || i[0].GetSct() {
		t.Errorf("identities = %v", i)
	}
	if len(bundle.GetKeys()) != 1 {
		t.Errorf("keys = %v", bundle.GetKeys())
	}
}

// A signer that signed with its key alone goes on with what it signed when it gets
// another identity, and what it signed keyless stays when that is taken away.
func TestSigner_IdentitiesComeAndGo(t *testing.T) {
	f := newFleet(t)
	f.start()
	image := f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	before := digests(f.nextAttested())
	f.stop()

	f.useSigstore(sigstoretest.Small(t), app.WitnessTimestamp)
	f.start()
	f.publish(events.Scanner, "2", f.scanned("scan-2", image, image))
	both := digests(f.nextAttested())
	for _, d := range before {
		if !slices.Contains(both, d) {
			t.Errorf("%s is not in force any more", d)
		}
	}
	if len(both) != 2*len(before) {
		t.Errorf("in force: %v", both)
	}
	f.stop()

	f.cfg.Identities, f.cfg.Sigstore = nil, app.Default().Sigstore
	f.start()
	f.publish(events.Scanner, "3", f.scanned("scan-3", image, image))
	if after := digests(f.nextAttested()); !slices.Equal(sorted(after), sorted(before)) {
		t.Errorf("in force: %v, before %v", after, before)
	}
}

func TestSigner_KeylessAlone(t *testing.T) {
	f := newFleet(t)
	f.useSigstore(sigstoretest.Small(t), app.WitnessTimestamp)
	f.cfg.Identities = f.cfg.Identities[1:]
	f.cfg.Keystore = app.KeystoreConfig{}
	p := &config.Problems{}
	f.cfg.Validate(p)
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	f.start()
	image := f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	f.nextAttested()
	if got := f.types(image); !slices.Equal(got, sorted(evidenceTypes)) {
		t.Errorf("types = %v", got)
	}
	keys := signerv1.NewKeyAdminServiceClient(f.dial(tlsx.OperatorID(eventbustest.TrustDomain, "test")))
	_, err := keys.RotateKey(t.Context(), &signerv1.RotateKeyRequest{RequestId: "00000000-0000-0000-0000-000000000001"})
	if err == nil || !strings.Contains(err.Error(), "no key store") {
		t.Errorf("RotateKey() = %v", err)
	}
}

// Whatever of the Sigstore does not answer, nothing is attached by halves, and it
// goes on when the service is back.
func TestSigner_SigstoreFails(t *testing.T) {
	for name, choose := range map[string]func(*sigstoretest.Sigstore) *sigstoretest.Switch{
		"Fulcio":              func(s *sigstoretest.Sigstore) *sigstoretest.Switch { return s.Fulcio },
		"timestamp authority": func(s *sigstoretest.Sigstore) *sigstoretest.Switch { return s.Timestamp },
	} {
		for way, spoil := range map[string]func(*sigstoretest.Switch){
			"is down": func(s *sigstoretest.Switch) { s.Answer(503) },
			"hangs":   (*sigstoretest.Switch).Hang,
			"refuses": func(s *sigstoretest.Switch) { s.Answer(403) },
		} {
			t.Run(name+" "+way, func(t *testing.T) {
				f := newFleet(t)
				f.Config.MaxDeliver = 1000
				s := sigstoretest.Small(t)
				f.useSigstore(s, app.WitnessTimestamp)
				for _, l := range []*time.Duration{&f.cfg.Sigstore.Fulcio.Timeout, &f.cfg.Sigstore.Timestamp.Timeout} {
					*l = 200 * time.Millisecond
				}
				f.cfg.Sigstore.Fulcio.Cooldown, f.cfg.Sigstore.Timestamp.Cooldown = 100*time.Millisecond, 100*time.Millisecond
				sick := choose(s)
				spoil(sick)
				f.start()
				image := f.registry.PushImage("team/app")
				f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
				f.eventually("calls of the "+name, func() bool { return sick.Calls() >= 3 })
				if got := f.types(image); len(got) != 0 {
					t.Errorf("attached: %v", got)
				}
				sick.Answer(0)
				f.nextAttested()
				f.checkBoth(image, false)
			})
		}
	}
}

func TestSigner_StartNeedsItsFiles(t *testing.T) {
	s := sigstoretest.Small(t)
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*app.Config)
		says   []string
	}{
		"no log in the config":   {func(c *app.Config) { c.Identities[1].Witnesses = []string{app.WitnessLog} }, []string{"identity ci", "transparency log"}},
		"wrong key password":     {func(c *app.Config) { c.Keystore.Password = config.Secret{Value: "wrong"} }, []string{"cosign.key", "keystore.password"}},
		"key store not given":    {func(c *app.Config) { c.Keystore.Dir = filepath.Join(dir, "keys") }, []string{"keys/cosign.key", "keystore.generate"}},
		"key store not writable": {func(c *app.Config) { c.Keystore.Dir, c.Keystore.Generate = "/proc/seaworthy", true }, []string{"/proc/seaworthy/cosign.key", "writable", "disk is not full"}},
		"key store is a file":    {func(c *app.Config) { c.Keystore.Dir = bad }, []string{bad, "not a directory"}},
		"password file missing":  {func(c *app.Config) { c.Keystore.Password = config.Secret{File: filepath.Join(dir, "pw")} }, []string{"keystore.password", "pw"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			f.useSigstore(s, app.WitnessTimestamp)
			tc.change(&f.cfg)
			err := f.tryStart()
			if err == nil {
				t.Fatal("it started")
			}
			for _, want := range tc.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
}

// A KMS that is not there is waited for: what else the signer does goes on.
func TestSigner_StartsWithoutItsKMS(t *testing.T) {
	f := newFleet(t)
	f.cfg.Identities = []app.IdentityConfig{
		{Name: "hardware", Type: app.TypeKMS, Key: "nosuchkms://signer"},
		{Name: "keys", Type: app.TypeKey},
	}
	f.start()
	if n := len(f.trustBundle().GetKeys()); n != 1 {
		t.Errorf("%d keys", n)
	}
	image := f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	if letter := f.deadLetter(0); !strings.Contains(letter.GetMessage(), "sigstore-kms-SCHEME") {
		t.Errorf("dead letter = %s: %s", letter.GetReason(), letter.GetMessage())
	}
	if got := f.types(image); len(got) != 0 {
		t.Errorf("attached: %v", got)
	}
}
