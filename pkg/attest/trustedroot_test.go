package attest

import (
	"testing"

	"github.com/sigstore/sigstore-go/pkg/root"
)

func TestKeyedTrustedRoot_SigstoreReadsIt(t *testing.T) {
	raw, err := KeyedTrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	r, err := root.NewTrustedRootFromJSON(raw)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.FulcioCertificateAuthorities()) + len(r.RekorLogs()) + len(r.TimestampingAuthorities()) + len(r.CTLogs()); n != 0 {
		t.Errorf("it names %d authorities, want none", n)
	}
}
