package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/services/signer/app"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/vaulttest"
)

// TestInterop_KMSOfVault signs with keys of each kind that the transit engine of a real
// Vault holds. cosign verifies with the public key of the trust bundle, and asks Vault
// itself; after the key was rotated in Vault each of the two
// verifies what it signed.
func TestInterop_KMSOfVault(t *testing.T) {
	vault := vaulttest.Start(t)
	cosign := newCosigner(t)
	for _, kind := range []string{"ecdsa-p256", "ed25519", "rsa-2048"} {
		t.Run(kind, func(t *testing.T) {
			f := newFleet(t)
			f.cfg.Identities = []app.IdentityConfig{{Name: "hardware", Type: app.TypeKMS, Key: vault.NewKey(t, kind, kind)}}
			f.cfg.Keystore = app.KeystoreConfig{Dir: t.TempDir()}
			f.cfg.MaxSBOM = attest.MaxDocument
			logged := f.listen()
			f.start()
			if got := strings.Contains(logged.String(), "max_sbom is more than the identity takes"); got != (kind == "ed25519") {
				t.Errorf("warned that an Ed25519 key takes less than max_sbom: %v", got)
			}
			root := filepath.Join(cosign.home, "trusted_root.json")
			if err := os.WriteFile(root, []byte(f.trustBundle().GetTrustedRootJson()), 0o600); err != nil {
				t.Fatal(err)
			}
			sign := func(id string) func(key string) (string, error) {
				image := f.registry.PushImage("team/" + id)
				f.publish(events.Scanner, id, f.scanned(id, image, image))
				f.nextAttested()
				return func(key string) (string, error) {
					return cosign.verify(image, evidenceTypes[1], "--key", key, "--trusted-root", root, "--insecure-ignore-tlog=true")
				}
			}
			file := func(k *signerv1.TrustedKey) string {
				path := filepath.Join(cosign.home, k.GetKeyId()+".pub")
				if err := os.WriteFile(path, []byte(k.GetPublicKeyPem()), 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			before := sign("before")
			old := file(f.trustBundle().GetKeys()[0])
			keys := []string{old}
			if kind == "ecdsa-p256" {
				// Of the others cosign's client has Vault check something else than it has it
				// sign: another padding of RSA, the digest in place of the message.
				keys = append(keys, f.cfg.Identities[0].Key)
			}
			for _, key := range keys {
				if out, err := before(key); err != nil || !strings.Contains(out, `"payload"`) {
					t.Errorf("cosign refuses it with %s: %v\n%s", key, err, out)
				}
			}
			// A start asks for the key anew; one that runs does so every five minutes.
			f.stop()
			vault.Rotate(t, kind)
			f.start()
			after := sign("after")
			trusted := f.trustBundle().GetKeys()
			if len(trusted) != 2 {
				t.Fatalf("keys = %v", trusted)
			}
			for _, k := range trusted {
				key := file(k)
				_, good := before(key)
				_, alsoGood := after(key)
				if isOld := key == old; (good == nil) != isOld || (alsoGood == nil) == isOld {
					t.Errorf("the old key: %v; before: %v; after: %v", isOld, good, alsoGood)
				}
			}
		})
	}
}

// TestInterop_KMSOfVaultRefuses: a token without rights is an answer that the dead letter
// carries, and nothing is attached.
func TestInterop_KMSOfVaultRefuses(t *testing.T) {
	vault := vaulttest.Start(t)
	f := newFleet(t)
	f.cfg.Identities = []app.IdentityConfig{{Name: "hardware", Type: app.TypeKMS, Key: vault.NewKey(t, "signer", "ecdsa-p256")}}
	f.cfg.Keystore = app.KeystoreConfig{Dir: t.TempDir()}
	f.cfg.KMS.Attempts = 1
	f.start()
	vault.Deny(t)
	image := f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	if letter := f.deadLetter(0); !strings.Contains(letter.GetMessage(), "permission denied") || !strings.Contains(letter.GetMessage(), "hashivault://signer") {
		t.Errorf("dead letter = %s: %s", letter.GetReason(), letter.GetMessage())
	}
	if got := f.types(image); len(got) != 0 {
		t.Errorf("attached: %v", got)
	}
}
