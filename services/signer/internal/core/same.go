package core

import (
	"encoding/json"
	"reflect"
)

// SameContent reports whether two predicates of one type say the same. Fields
// that name the occasion are left out: when a scan ran and which scan it was, when a verdict was reached.
// It lets the signer recognise its own attestation in the registry after it lost
// its log.
func SameContent(predicateType string, a, b json.RawMessage) bool {
	x, ok := withoutOccasion(predicateType, a)
	if !ok {
		return false
	}
	y, ok := withoutOccasion(predicateType, b)
	return ok && reflect.DeepEqual(x, y)
}

func withoutOccasion(predicateType string, raw json.RawMessage) (map[string]any, bool) {
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		return nil, false
	}
	switch predicateType {
	case PredicateVulnsV02, PredicateCosignVuln:
		delete(m, "metadata")
		delete(m, "invocation")
	case PredicateReference:
		delete(m, "https://seaworthy.dev/index/v1")
	case PredicateOpenVEX:
		delete(m, "timestamp")
		delete(m, "@id")
	}
	return m, true
}
