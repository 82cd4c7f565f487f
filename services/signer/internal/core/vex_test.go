package core

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/openvex/go-vex/pkg/vex"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

const (
	textPURL = "pkg:golang/golang.org/x/text@v0.3.7"
	netPURL  = "pkg:golang/golang.org/x/net@v0.1.0"
	author   = "https://seaworthy.dev/verifier"
)

var expire = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func accepted() Exception {
	return Exception{
		Name: "accept-net", Target: "CVE-2022-41723", PURLs: []string{netPURL}, Owner: "team-a",
		Reason: "only <internal> & trusted callers", Ticket: "https://tickets.example/7", ExpireTime: expire,
	}
}

func notAffected() Exception {
	return Exception{
		Name: "no-parsing", Target: "CVE-2022-32149", PURLs: []string{textPURL}, Owner: "team-b",
		Reason: "no languages are parsed", Justification: "vulnerable_code_not_in_execute_path", ExpireTime: expire,
	}
}

func excepted(exceptions ...Exception) Verdict {
	v := verdict()
	v.Exceptions = exceptions
	for _, e := range exceptions {
		v.Platforms[0].Exceptions = append(v.Platforms[0].Exceptions, e.Name)
	}
	return v
}

// revised is the document of one subject after the one before.
func revised(t *testing.T, v Verdict, digest string, before json.RawMessage) (Predicate, bool) {
	t.Helper()
	for _, s := range VEXs(v, "registry.example:5000/team/app", author) {
		if s.Digest != digest {
			continue
		}
		p, ok, err := s.Revise(before)
		if err != nil {
			t.Fatal(err)
		}
		return p, ok
	}
	return Predicate{}, false
}

func TestVEXs_Golden(t *testing.T) {
	v := excepted(notAffected(), accepted(), Exception{Name: "root", Target: "rule:no-root", Owner: "x"})
	for digest, file := range map[string]string{indexDigest: "openvex-index", imageDigest: "openvex-platform"} {
		p, ok := revised(t, v, digest, nil)
		if !ok || p.Type != PredicateOpenVEX || !p.Time.Equal(v.EvaluateTime) {
			t.Fatalf("%s: %+v, %v", file, p, ok)
		}
		golden(t, file, p.JSON)
		again, _ := revised(t, v, digest, nil)
		if string(again.JSON) != string(p.JSON) || again.ContentKey != p.ContentKey {
			t.Errorf("%s: the same verdict gave other bytes", file)
		}
	}
	if _, ok := revised(t, v, armDigest, nil); ok {
		t.Error("a platform whose verdict rests on no exception got a document")
	}
}

// TestFormats_OpenVEX reads our documents with OpenVEX's own types.
func TestFormats_OpenVEX(t *testing.T) {
	first, _ := revised(t, excepted(notAffected(), accepted()), indexDigest, nil)
	later := excepted()
	later.EvaluateTime = later.EvaluateTime.Add(time.Hour)
	second, _ := revised(t, later, indexDigest, first.JSON)
	for _, p := range []Predicate{first, second} {
		doc, err := vex.Parse(p.JSON)
		if err != nil {
			t.Fatal(err)
		}
		if len(doc.Statements) != 2 || doc.Timestamp == nil || !doc.Timestamp.Equal(p.Time) {
			t.Fatalf("OpenVEX reads %d statements of %v", len(doc.Statements), doc.Timestamp)
		}
		for _, st := range doc.Statements {
			if err := st.Validate(); err != nil {
				t.Errorf("%s: %v", st.Vulnerability.Name, err)
			}
		}
		image := imageref.PURL("registry.example:5000/team/app", indexDigest)
		found := doc.Matches("CVE-2022-32149", image, []string{textPURL})
		if len(found) != 1 {
			t.Errorf("OpenVEX finds %d statements about the package in the image", len(found))
		}
		if found := doc.Matches("CVE-2022-32149", image, []string{netPURL}); len(found) != 0 {
			t.Error("a statement matches another package")
		}
	}
}

func TestVEXs_EndedExceptionIsTakenBack(t *testing.T) {
	both := excepted(notAffected(), accepted())
	first, _ := revised(t, both, imageDigest, nil)
	one := excepted(accepted())
	one.EvaluateTime = both.EvaluateTime.Add(time.Hour)
	second, ok := revised(t, one, imageDigest, first.JSON)
	if !ok {
		t.Fatal("no document says that the exception ended")
	}
	want := []string{"CVE-2022-41723 affected", "CVE-2022-32149 affected 2026-03-01T13:00:02Z"}
	if diff := cmp.Diff(want, said(t, second)); diff != "" {
		t.Errorf("statements (-want +got):\n%s", diff)
	}
	if second.ContentKey == first.ContentKey {
		t.Error("the content has the key of the one before")
	}
	// The same verdict once more changes nothing, and neither does a later one.
	same, _ := revised(t, one, imageDigest, second.JSON)
	if string(same.JSON) != string(second.JSON) {
		t.Error("the same verdict after its own document gave other bytes")
	}
	one.EvaluateTime = one.EvaluateTime.Add(time.Hour)
	if later, _ := revised(t, one, imageDigest, second.JSON); later.ContentKey != second.ContentKey {
		t.Errorf("a later verdict differs: %s", later.JSON)
	}
	// It is back: the statement that took it back is gone.
	both.EvaluateTime = one.EvaluateTime.Add(time.Hour)
	back, _ := revised(t, both, imageDigest, second.JSON)
	if diff := cmp.Diff([]string{"CVE-2022-32149 not_affected", "CVE-2022-41723 affected"}, said(t, back)); diff != "" {
		t.Errorf("statements after the return (-want +got):\n%s", diff)
	}
}

func said(t *testing.T, p Predicate) []string {
	t.Helper()
	var d vexDocument
	if err := json.Unmarshal(p.JSON, &d); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, st := range d.Statements {
		out = append(out, strings.TrimSpace(strings.Join([]string{st.Vulnerability.Name, st.Status, st.Timestamp}, " ")))
	}
	return out
}

// TestVEXs_AllEndedIsSaidOnce: a document that only takes back is not renewed.
func TestVEXs_AllEndedIsSaidOnce(t *testing.T) {
	first, _ := revised(t, excepted(accepted()), imageDigest, nil)
	none := excepted()
	none.EvaluateTime = none.EvaluateTime.Add(time.Hour)
	second, ok := revised(t, none, imageDigest, first.JSON)
	if !ok {
		t.Fatal("nothing takes it back")
	}
	none.EvaluateTime = none.EvaluateTime.Add(1000 * time.Hour)
	third, ok := revised(t, none, imageDigest, second.JSON)
	if !ok || !third.Time.Equal(second.Time) || string(third.JSON) != string(second.JSON) {
		t.Errorf("a later verdict makes it anew: %s", third.JSON)
	}
}

func TestVEXs_Edges(t *testing.T) {
	unknown, old, strange := excepted(accepted()), accepted(), notAffected()
	unknown.Platforms[0].Outcome = Unknown
	old.PURLs = nil
	strange.Justification = "because"
	contradiction, twice := notAffected(), accepted()
	contradiction.Target, contradiction.PURLs = twice.Target, []string{netPURL, textPURL}
	tests := []struct {
		name string
		v    Verdict
		want []string
	}{
		{"no exceptions", excepted(), nil},
		{"platform without a sound verdict", unknown, nil},
		{"only rules", excepted(Exception{Name: "r", Target: "rule:x"}), nil},
		{"no packages recorded", excepted(old), nil},
		{"unknown justification is no justification", excepted(strange), []string{"CVE-2022-32149 affected"}},
		{"of two about one package the worse", excepted(contradiction, twice), []string{"CVE-2022-41723 affected", "CVE-2022-41723 not_affected"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, ok := revised(t, tt.v, imageDigest, nil)
			if !ok {
				if tt.want != nil {
					t.Error("no document")
				}
				return
			}
			if diff := cmp.Diff(tt.want, said(t, p)); diff != "" {
				t.Errorf("statements (-want +got):\n%s", diff)
			}
		})
	}
}

// TestVEXs_OneStatementForEachPackage: of two exceptions for one package the one
// that accepts the risk is heard, the other only about the rest.
func TestVEXs_OneStatementForEachPackage(t *testing.T) {
	better, worse := notAffected(), accepted()
	better.Target, better.PURLs = worse.Target, []string{textPURL, netPURL, textPURL}
	p, _ := revised(t, excepted(better, worse), imageDigest, nil)
	var d vexDocument
	if err := json.Unmarshal(p.JSON, &d); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, st := range d.Statements {
		got[st.Status] = st.purls()
	}
	if diff := cmp.Diff(map[string][]string{vexAffected: {netPURL}, vexNotAffected: {textPURL}}, got); diff != "" {
		t.Errorf("packages by status (-want +got):\n%s", diff)
	}
}

func TestVEXs_BrokenDocumentInForce(t *testing.T) {
	for _, s := range VEXs(excepted(accepted()), "r/app", author) {
		if _, _, err := s.Revise(json.RawMessage(`{"statements":{}}`)); err == nil {
			t.Errorf("%s: a broken document was read", s.Digest)
		}
	}
}

func FuzzVEXs_Revise(f *testing.F) {
	f.Add([]byte(`{"timestamp":"2026-03-01T11:00:00Z","statements":[{"vulnerability":{"name":"CVE-1"},"status":"not_affected","products":[{"@id":"pkg:oci/x","subcomponents":[{"@id":"pkg:a/b"}]}]}]}`))
	f.Add([]byte(`{"statements":[{"products":[]}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, before []byte) {
		for _, s := range VEXs(excepted(accepted()), "r/app", author) {
			p, ok, err := s.Revise(before)
			if err != nil {
				continue
			}
			if !ok && s.Digest != armDigest {
				t.Error("no document although an exception is in force")
			}
			if ok && !json.Valid(p.JSON) {
				t.Errorf("not JSON: %s", p.JSON)
			}
		}
	})
}
