package core

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"

	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
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
	if err := strictjson.Unmarshal(raw, &m); err != nil || m == nil {
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

// Says reports whether a predicate that was read says the same as the claim.
func (p Predicate) Says(predicate json.RawMessage) bool {
	if p.Document == nil {
		return SameContent(p.Type, predicate, p.JSON)
	}
	if int64(len(predicate)) != p.Document.Size() {
		return false
	}
	part := make([]byte, 32<<10)
	for off := 0; off < len(predicate); off += len(part) {
		want := predicate[off:min(off+len(part), len(predicate))]
		n, err := p.Document.ReadAt(part[:len(want)], int64(off))
		if n != len(want) || err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(part[:n], want) {
			return false
		}
	}
	return true
}
