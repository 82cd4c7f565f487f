package core

import (
	"testing"

	vulns "github.com/in-toto/attestation/go/predicates/vulns/v02"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

// TestFormats_VulnsV02 reads our predicate with in-toto's own types, strictly.
func TestFormats_VulnsV02(t *testing.T) {
	got, err := Evidence(scan, report(), sbom(SPDXJSON, spdx()))
	if err != nil {
		t.Fatal(err)
	}
	var v vulns.Vulns
	if err := protojson.Unmarshal(got[1].JSON, &v); err != nil {
		t.Fatal(err)
	}
	if n := len(v.GetScanner().GetResult()); n != 2 {
		t.Errorf("in-toto reads %d results, want 2", n)
	}
	if !v.GetMetadata().GetScanFinishedOn().AsTime().Equal(scan.EndTime) {
		t.Errorf("scanFinishedOn = %v", v.GetMetadata().GetScanFinishedOn().AsTime())
	}
}

// TestFormats_PredicateTypes compares with the package that readers use.
func TestFormats_PredicateTypes(t *testing.T) {
	for ours, theirs := range map[string]string{
		PredicateSPDX:       attest.PredicateSPDX,
		PredicateCycloneDX:  attest.PredicateCycloneDX,
		PredicateVulnsV02:   attest.PredicateVulnsV02,
		PredicateReference:  attest.PredicateReference,
		PredicateCosignVuln: attest.PredicateCosignVuln,
		PredicateVSA:        attest.PredicateVSA,
		PredicateOpenVEX:    attest.PredicateOpenVEX,
		vexTooling:          attest.VEXTooling,
	} {
		if ours != theirs {
			t.Errorf("%s is not %s", ours, theirs)
		}
	}
}
