package attest_test

import (
	"encoding/json"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
)

func TestIsPublishedException(t *testing.T) {
	tests := []struct {
		name, predicateType, predicate string
		want                           bool
	}{
		{"ours", attest.PredicateOpenVEX, `{"tooling":"https://seaworthy.dev/signer"}`, true},
		{"of somebody", attest.PredicateOpenVEX, `{"tooling":"vexctl","author":"https://seaworthy.dev/signer"}`, false},
		{"no tooling", attest.PredicateOpenVEX, `{}`, false},
		{"not an object", attest.PredicateOpenVEX, `[]`, false},
		{"another type", attest.PredicateVSA, `{"tooling":"https://seaworthy.dev/signer"}`, false},
	}
	for _, tt := range tests {
		st := attest.Statement{PredicateType: tt.predicateType, Predicate: json.RawMessage(tt.predicate)}
		if got := attest.IsPublishedException(st); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
