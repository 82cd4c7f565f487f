package record_test

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/record"
)

// earlier is evidence as the first release that recorded any wrote it.
const earlier = `{"Digest":"sha256:aa","Platform":{"OS":"linux","Architecture":"amd64","Variant":""},` +
	`"Report":{"Source":{"PredicateType":"p","ManifestDigest":"sha256:bb","KeyID":"k","SignTime":"2026-03-01T11:00:00Z","Predicate":null},` +
	`"Image":{"Registry":"","Repository":"","Digest":"","Platform":"","Created":"2026-03-01T11:00:00Z","Labels":null,` +
	`"User":"65532","Entrypoint":null,"Cmd":null,"ExposedPorts":null,"EnvNames":["PATH"],"Distro":{"ID":"alpine","Version":"3.22"}},` +
	`"Platform":{"OS":"linux","Architecture":"amd64","Variant":""},` +
	`"Packages":[{"Purl":"pkg:apk/alpine/a@1","Name":"a","Version":"1","Ecosystem":"Alpine:v3.22","SourceName":"","SourceVersion":"","Location":"","Licenses":null}],` +
	`"Findings":[{"ID":"CVE-1","Aliases":null,"Severity":"LOW","SeverityRank":3,"CVSS":0,"EPSS":0,"KEV":false,"Package":"a","Version":"1","Purl":"","FixedVersions":["2"],"Location":""}],` +
	`"AdvisoryDigest":"sha256:cc","AdvisoryTime":"2026-02-28T12:00:00Z","Incomplete":false,"Problems":null},` +
	`"Attestations":[{"PredicateType":"p","ManifestDigest":"sha256:bb","KeyID":"k","SignTime":"2026-03-01T11:00:00Z","Predicate":null}],` +
	`"Rejected":null,"NotBefore":"0001-01-01T00:00:00Z"}`

// TestEarlierRelease records evidence of an earlier release again: with other bytes
// its verdicts could no longer be proven.
func TestEarlierRelease(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte(earlier))
	d, err := record.Pack([]byte(earlier))
	if err != nil {
		t.Fatal(err)
	}
	if want := "sha256:" + hex.EncodeToString(sum[:]); d.Digest != want {
		t.Fatalf("digest %s, want %s", d.Digest, want)
	}
	e, err := record.UnpackEvidence(d)
	if err != nil {
		t.Fatal(err)
	}
	again, err := record.PackEvidence(e)
	if err != nil {
		t.Fatal(err)
	}
	if again.Digest != d.Digest {
		content, err := record.Unpack(again)
		t.Errorf("recorded again:\n%s\n(%v) was:\n%s", content, err, earlier)
	}
}
