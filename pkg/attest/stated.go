package attest

import (
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// StatedTime is when the content of a statement was found to be true, as the
// statement itself says, and thus as its signer does: the end of a scan, the
// evaluation of a verdict, the timestamp of a VEX document. It is zero for types
// without such a time; an SBOM's time of creation is that of the document's
// subject more often than not.
//
// A statement is signed at or after that time: with a plain key nothing else
// about the time of signing can be known.
func StatedTime(st Statement) time.Time {
	var stated struct {
		Metadata struct {
			ScanFinishedOn time.Time `json:"scanFinishedOn"`
		} `json:"metadata"`
		TimeVerified time.Time `json:"timeVerified"`
		Timestamp    time.Time `json:"timestamp"`
	}
	if !statesTime(st.PredicateType) {
		return time.Time{}
	}
	if err := strictjson.Unmarshal(st.Predicate, &stated); err != nil {
		return time.Time{}
	}
	switch st.PredicateType {
	case PredicateVSA:
		return stated.TimeVerified.UTC()
	case PredicateOpenVEX:
		return stated.Timestamp.UTC()
	default:
		return stated.Metadata.ScanFinishedOn.UTC()
	}
}

func statesTime(predicateType string) bool {
	switch predicateType {
	case PredicateCosignVuln, PredicateVulnsV02, PredicateVSA, PredicateOpenVEX:
		return true
	default:
		return false
	}
}
