package attest

import "github.com/seaworthy-dev/seaworthy/pkg/strictjson"

// VEXTooling is the `tooling` of the OpenVEX documents that the signer makes of
// the exceptions behind a verdict.
const VEXTooling = "https://seaworthy.dev/signer"

// IsPublishedException reports whether a statement is an OpenVEX document that
// was made of a verdict. It repeats what a verdict said: whoever took it as
// evidence for the next one would let an exception outlive its end.
func IsPublishedException(st Statement) bool {
	if st.PredicateType != PredicateOpenVEX {
		return false
	}
	var doc struct {
		Tooling string `json:"tooling"`
	}
	return strictjson.Unmarshal(st.Predicate, &doc) == nil && doc.Tooling == VEXTooling
}
