package evidence_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/evidence"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// exceptions is the claim of a verdict, so long after start, that rests on
// exceptions from the vulnerabilities.
func exceptions(ref imageref.Ref, after time.Duration, vulnerabilities ...string) core.Predicate {
	v := core.Verdict{ImageDigest: ref.Digest, Outcome: core.Pass, EvaluateTime: start.Add(after)}
	for _, id := range vulnerabilities {
		v.Exceptions = append(v.Exceptions, core.Exception{Name: "accept-" + id, Target: id, PURLs: []string{"pkg:golang/x@1"}})
	}
	return core.VEXs(v, ref.Name(), "https://seaworthy.dev/verifier")[0].Predicate
}

// statements are the vulnerabilities of the newest document in the registry and
// whether they were taken back.
func (f *fixture) statements(t *testing.T, ref imageref.Ref) map[string]bool {
	t.Helper()
	digest, _ := f.newest(ref)
	for _, v := range f.registry.Attestations(ref, f.roots) {
		if v.ManifestDigest != digest {
			continue
		}
		var d struct {
			Statements []struct {
				Vulnerability struct{ Name string }
				Timestamp     string
			}
		}
		if err := json.Unmarshal(v.Predicate, &d); err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, st := range d.Statements {
			out[st.Vulnerability.Name] = st.Timestamp != ""
		}
		return out
	}
	return nil
}

func TestWriter_RevisesWhatIsInForce(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		t.Helper()
		ref := f.registry.PushImage("team/app")
		if got, err := f.writer(t, f.store).Attach(t.Context(), ref, []core.Predicate{exceptions(ref, 0)}); err != nil || len(got) != 0 {
			t.Fatalf("nothing to say, and yet: %v, %v", got, err)
		}
		first := f.attachOne(t, ref, exceptions(ref, time.Minute, "CVE-1", "CVE-2"))
		second := f.attachOne(t, ref, exceptions(ref, 2*time.Minute, "CVE-2"))
		if got, n := f.newest(ref); got != second || second == first || n != 2 {
			t.Fatalf("newest = %s of %d, want the second", got, n)
		}
		if got := f.statements(t, ref); len(got) != 2 || !got["CVE-1"] || got["CVE-2"] {
			t.Errorf("taken back: %v, want CVE-1 alone", got)
		}
		// Delivered once more, and out of order.
		for _, p := range []core.Predicate{exceptions(ref, 2*time.Minute, "CVE-2"), exceptions(ref, time.Minute, "CVE-1", "CVE-2")} {
			if got := f.attachOne(t, ref, p); got != second {
				t.Error("what was said already was said again")
			}
		}
		third := f.attachOne(t, ref, exceptions(ref, 3*time.Minute))
		for _, later := range []time.Duration{day, 2 * day, 30 * day} {
			if got := f.attachOne(t, ref, exceptions(ref, later)); got != third {
				t.Errorf("%v later nothing is excepted any more, and that is said again", later)
			}
		}
		f.sweep(t, f.clock.Add(grace+time.Hour), 2)
		if got, n := f.newest(ref); got != third || n != 1 {
			t.Errorf("newest = %s of %d, want the third alone", got, n)
		}
	})
}

func TestWriter_RevisesAfterItsLogWasLost(t *testing.T) {
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app")
	first := f.attachOne(t, ref, exceptions(ref, 0, "CVE-1"))
	f.store = newStore(t)
	if got := f.attachOne(t, ref, exceptions(ref, time.Minute, "CVE-1")); got != first {
		t.Error("it did not recognise its own document")
	}
	f.store = newStore(t)
	f.attachOne(t, ref, exceptions(ref, 2*time.Minute))
	if got := f.statements(t, ref); !got["CVE-1"] {
		t.Errorf("the document that the log did not know was not taken back: %v", got)
	}
}

// overtaken is a log into which another signer writes between reading and writing.
type overtaken struct {
	store.Store
	between func()
}

func (o overtaken) Begin(ctx context.Context, e []store.Entry, serves func(int, store.Entry) bool) ([]store.Entry, error) {
	o.between()
	return o.Store.Begin(ctx, e, serves)
}

func TestWriter_RevisedMeanwhile(t *testing.T) {
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app")
	w := f.writer(t, overtaken{f.store, func() { f.attachOne(t, ref, exceptions(ref, time.Minute, "CVE-1")) }})
	later := exceptions(ref, 2*time.Minute, "CVE-2")
	if _, err := w.Attach(t.Context(), ref, []core.Predicate{later}); !errors.Is(err, evidence.ErrRevised) {
		t.Fatalf("Attach() = %v, want ErrRevised", err)
	}
	f.attachOne(t, ref, later)
	if got := f.statements(t, ref); !got["CVE-1"] || got["CVE-2"] {
		t.Errorf("taken back: %v, want CVE-1 alone", got)
	}
}

func TestWriter_RevisionFails(t *testing.T) {
	f := newFixture(t, true)
	ref := f.registry.PushImage("team/app")
	broken := errors.New("broken")
	for name, p := range map[string]core.Predicate{
		"error": {Type: core.PredicateOpenVEX, Revise: func(json.RawMessage) (core.Predicate, bool, error) { return core.Predicate{}, false, broken }},
		"other type": {Type: core.PredicateOpenVEX, Revise: func(json.RawMessage) (core.Predicate, bool, error) {
			return core.Predicate{Type: core.PredicateVSA}, true, nil
		}},
	} {
		if got, err := f.writer(t, f.store).Attach(t.Context(), ref, []core.Predicate{p}); err == nil {
			t.Errorf("%s: Attach() = %v", name, got)
		}
	}
	if n := len(f.registry.Attestations(ref, f.roots)); n != 0 {
		t.Errorf("%d attestations", n)
	}
}
