package vex

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/evidence/evidencetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const sample = `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"https://v.example/1","author":"V","timestamp":"2026-02-01T00:00:00Z","version":1,
"statements":[
 {"vulnerability":{"name":"CVE-1","aliases":["GHSA-1"]},"status":"not_affected","justification":"component_not_present",
  "products":[{"@id":"pkg:oci/app","hashes":{"sha-256":"AA"},"subcomponents":[{"@id":"x","identifiers":{"purl":"pkg:npm/a@1"}}]}]},
 {"vulnerability":{"name":"CVE-2"},"status":"affected","timestamp":"2026-02-03T00:00:00Z","last_updated":"2026-02-04T00:00:00Z","action_statement":"update"},
 {"vulnerability":"CVE-3","status":"fixed","products":["pkg:npm/b@2"],"subcomponents":["pkg:npm/c"]}]}`

func TestParse(t *testing.T) {
	t.Parallel()
	d, err := Parse([]byte(sample))
	if err != nil || d.ID != "https://v.example/1" || d.Author != "V" || len(d.Statements) != 3 {
		t.Fatalf("%+v, %v", d, err)
	}
	one, two, three := d.Statements[0], d.Statements[1], d.Statements[2]
	if strings.Join(one.Vulnerabilities, " ") != "CVE-1 GHSA-1" || !one.Time.Equal(d.Time) || one.Products[0].Digests[0] != "sha256:aa" ||
		one.Products[0].Purl != "pkg:oci/app" || one.Products[0].Subcomponents[0].Purl != "pkg:npm/a@1" {
		t.Errorf("first: %+v", one)
	}
	if two.Status != core.VexAffected || two.Time.Day() != 4 || len(two.Products) != 0 {
		t.Errorf("second: %+v", two)
	}
	if three.Vulnerabilities[0] != "CVE-3" || three.Products[0].Purl != "pkg:npm/b@2" || three.Products[0].Subcomponents[0].Purl != "pkg:npm/c" {
		t.Errorf("of an old form: %+v", three)
	}
}

// TestParseKeepsWhatIsSaid reads products that say more than a package URL.
func TestParseKeepsWhatIsSaid(t *testing.T) {
	t.Parallel()
	for product, want := range map[string]string{
		`{"@id":"pkg:npm/b@2","identifiers":{"purl":"pkg:npm/%62@2"}}`:                             "",
		`{"@id":"pkg:npm/b@2","identifiers":{"purl":"pkg:npm/b"}}`:                                 "is not the package URL that its identifiers have",
		`{"@id":"pkg:npm/b@2","identifiers":{"cpe23":"cpe:2.3:a:b:b:2:*:*:*:*:*:*:*"}}`:            "has the identifier cpe23",
		`{"@id":"pkg:npm/b@2","hashes":{"sha-512":"aa"}}`:                                          "has the hash sha-512",
		`{"@id":"pkg:oci/b","identifiers":{"cpe23":"c"},"hashes":{"sha-256":"AA","sha-512":"bb"}}`: "",
		`{"@id":"https://b.example","identifiers":{"purl":"PKG:npm/b"}}`:                           "",
	} {
		d, err := Parse([]byte(strings.Replace(sample, `"pkg:npm/b@2"`, product, 1)))
		if err != nil {
			t.Errorf("%s: %v", product, err)
			continue
		}
		c := d.Statements[2].Products[0]
		if got := c.Unmatched; want == "" && got != "" || !strings.Contains(got, want) || c.Purl == "" {
			t.Errorf("%s: %+v, want %q", product, c, want)
		}
	}
}

// TestImportRefusesTags imports documents about images that are named by a tag.
func TestImportRefusesTags(t *testing.T) {
	t.Parallel()
	vendor := evidencetest.NewKey(t)
	trusted := authors(map[string]*evidencetest.Key{"vendor": vendor})
	for old, tc := range map[string]struct{ with, want string }{
		`"pkg:oci/app"`: {`"pkg:oci/app?tag=v1"`, "statement 1: \"pkg:oci/app?tag=v1\" can match nothing: it names a tag"},
		`"pkg:npm/c"`:   {`"pkg:docker/c@latest"`, "statement 3: \"pkg:docker/c@latest\" can match nothing: its version is a tag"},
	} {
		doc := []byte(strings.Replace(sample, old, tc.with, 1))
		_, err := trusted.Import(doc, vendor.Sign(Digest(doc), "https://example.com/type", map[string]any{}), evidencetest.Now)
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.with, err, tc.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	replace := func(old, with string) string { return strings.Replace(sample, old, with, 1) }
	many := func(n int, s string) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }
	for name, tc := range map[string]struct{ doc, want string }{
		"no JSON":              {"{", "ends early"},
		"another format":       {replace("https://openvex.dev/ns/v0.2.0", "https://x.example"), "@context"},
		"status":               {replace("not_affected", "harmless"), `no status "harmless"`},
		"justification":        {replace("component_not_present", "trust_me"), `no justification "trust_me"`},
		"no vulnerability":     {replace(`"name":"CVE-2"`, `"name":""`), "statement 2: "},
		"no time":              {replace(`"timestamp":"2026-02-01T00:00:00Z",`, ""), "usable timestamp"},
		"time out of reach":    {replace(`"timestamp":"2026-02-01`, `"timestamp":"0001-02-01`), "usable timestamp"},
		"product without name": {replace(`"pkg:npm/b@2"`, `{}`), "without an identifier"},
		"a status twice":       {replace(`"status":`, `"status":"fixed","status":`), "is there twice"},
		"a status in capitals": {replace(`"status":`, `"Status":"fixed","status":`), `is not "status"`},
		"a product with an ID": {replace(`"pkg:npm/b@2"`, `{"@id":"pkg:npm/b@2","@ID":"pkg:npm/c"}`), `is not "@id"`},
		"a name with a long s": {replace(`"status":`, "\"@\u212aontext\":1,\"ſtatus\":\"fixed\",\"status\":"), `is not "status"`},
		"too large":            {strings.Repeat(" ", MaxDocument+1), "exceeds the limit of"},
		"too many statements":  {`{"@context":"https://openvex.dev/ns","statements":[` + many(MaxStatements+1, "{}") + `]}`, "statements, the limit is"},
		"too many products":    {replace(`["pkg:npm/b@2"]`, "["+many(MaxProducts+1, `"a"`)+"]"), "products, the limit is"},
		"too many of all":      {replace(`["pkg:npm/b@2"],"subcomponents":["pkg:npm/c"]`, "["+many(9000, `"a"`)+`],"subcomponents":[`+many(20, `"a"`)+"]"), "products and subcomponents"},
		"too many aliases":     {replace(`["GHSA-1"]`, "["+many(maxAliases+1, `"a"`)+"]"), "aliases"},
		"too long an id":       {replace("pkg:npm/b@2", strings.Repeat("x", maxText+1)), "a text has more than"},
		"too many identifiers": {replace(`"hashes":{"sha-256":"AA"}`, `"hashes":{"sha-256":"AA"`+func() string {
			var b strings.Builder
			for i := range maxIdentifiers {
				fmt.Fprintf(&b, `,"h%d":"y"`, i)
			}
			return b.String()
		}()+"}"), "identifiers or hashes"},
		"too many of one's own": {replace(`["pkg:npm/c"]`, "["+many(MaxProducts+1, `"a"`)+"]"), "subcomponents, the limit is"},
	} {
		d, err := Parse([]byte(tc.doc))
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tc.want) || d.Statements != nil {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestRealDocument reads the document of the Node.js project.
func TestRealDocument(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("testdata", "node.openvex.json"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse(raw)
	if err != nil || len(d.Statements) != 183 || d.Author != "Node.js Security WG" {
		t.Fatalf("%d statements of %q, %v", len(d.Statements), d.Author, err)
	}
	statuses := map[string]int{}
	for _, s := range d.Statements {
		statuses[s.Status]++
		if len(s.Products) == 0 || s.Time.IsZero() {
			t.Errorf("%+v", s)
		}
	}
	if err := d.unmatchable(); err != nil {
		t.Error(err)
	}
	if statuses[core.VexFixed] != 172 || statuses[core.VexNotAffected] != 11 {
		t.Errorf("%v", statuses)
	}
}

func authors(all map[string]*evidencetest.Key) Authors {
	var out Authors
	for name, k := range all {
		out = append(out, Author{Name: name, Roots: attest.TrustRoots{Keys: []attest.TrustedKey{k.Trusted()}}})
	}
	return out
}

func TestImport(t *testing.T) {
	t.Parallel()
	vendor, stranger := evidencetest.NewKey(t), evidencetest.NewKey(t)
	trusted := authors(map[string]*evidencetest.Key{"vendor": vendor})
	doc := []byte(sample)
	var predicate map[string]any
	if err := json.Unmarshal(doc, &predicate); err != nil {
		t.Fatal(err)
	}
	own := map[string]any{"tooling": attest.VEXTooling}
	for k, v := range predicate {
		own[k] = v
	}
	ownDoc, err := json.Marshal(own)
	if err != nil {
		t.Fatal(err)
	}
	inside := vendor.Sign(Digest([]byte("x")), attest.PredicateOpenVEX, predicate)
	for name, tc := range map[string]struct {
		document, bundle []byte
		err              error
	}{
		"document beside":            {doc, vendor.Sign(Digest(doc), "https://example.com/type", predicate), nil},
		"document inside":            {nil, inside, nil},
		"by a stranger":              {doc, stranger.Sign(Digest(doc), attest.PredicateOpenVEX, predicate), ErrUntrusted},
		"inside, by a stranger":      {nil, stranger.Sign(Digest(doc), attest.PredicateOpenVEX, predicate), ErrUntrusted},
		"signature of another":       {append(doc, ' '), vendor.Sign(Digest(doc), attest.PredicateOpenVEX, predicate), ErrUntrusted},
		"inside, of another type":    {nil, vendor.Sign(Digest(doc), attest.PredicateSPDX, predicate), ErrMalformed},
		"no bundle":                  {doc, nil, ErrMalformed},
		"inside, no document":        {nil, vendor.Sign(Digest(doc), attest.PredicateOpenVEX, map[string]any{}), ErrMalformed},
		"our own":                    {nil, vendor.Sign(Digest(doc), attest.PredicateOpenVEX, own), ErrOurs},
		"our own, taken out":         {ownDoc, vendor.Sign(Digest(ownDoc), "https://example.com/type", map[string]any{}), ErrOurs},
		"tampered with after signed": {nil, []byte(strings.Replace(string(inside), `"payload":"ey`, `"payload":"eX`, 1)), ErrMalformed},
	} {
		got, err := trusted.Import(tc.document, tc.bundle, evidencetest.Now)
		if !errors.Is(err, tc.err) || tc.err == nil && (got.TrustedAuthor != "vendor" || len(got.Statements) != 3) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := Authors(nil).Import(nil, inside, evidencetest.Now); !errors.Is(err, ErrUntrusted) {
		t.Errorf("nobody is trusted: %v", err)
	}
	got, err := trusted.Import(nil, inside, evidencetest.Now)
	if err != nil {
		t.Fatal(err)
	}
	d, body, err := got.Record()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Recorded(body)
	if err != nil || again.Digest != d.Digest || len(again.Statements) != len(d.Statements) {
		t.Errorf("recorded: %+v, %v", again, err)
	}
	attached := core.VexDocument{Author: "vendor", KeyID: got.KeyID, Statements: got.Statements}
	other := attached
	other.Author = "other"
	if !trusted.Believes(attached, evidencetest.Now) || trusted.Believes(other, evidencetest.Now) {
		t.Error("whose key it is was mixed up")
	}
	dated := attached
	dated.DocumentTime = evidencetest.Now.Add(attest.ClockSkew + 1)
	late := attached
	late.Statements = []core.VexStatement{{Time: evidencetest.Now.Add(time.Hour)}}
	if trusted.Believes(dated, evidencetest.Now) || trusted.Believes(late, evidencetest.Now) || !trusted.Believes(late, evidencetest.Now.Add(time.Hour)) {
		t.Error("a document of the future is believed, or is not when its time has come")
	}
}

// TestImportOfTheFuture: neither the document, nor one of its statements, nor the file
// beside the bundle may be of later than now.
func TestImportOfTheFuture(t *testing.T) {
	t.Parallel()
	vendor := evidencetest.NewKey(t)
	trusted := authors(map[string]*evidencetest.Key{"vendor": vendor})
	future := evidencetest.Now.Add(time.Hour).Format(time.RFC3339)
	past := evidencetest.Now.Add(-time.Hour).Format(time.RFC3339)
	statement := func(at string) string {
		return `{"vulnerability":{"name":"CVE-2022-32149"},"products":[{"@id":"pkg:golang/golang.org/x/text@0.3.7"}],"status":"fixed","timestamp":"` + at + `"}`
	}
	for name, doc := range map[string]string{
		"document":  `{"@context":"https://openvex.dev/ns/v0.2.0","timestamp":"` + future + `","statements":[` + statement(past) + `]}`,
		"updated":   `{"@context":"https://openvex.dev/ns/v0.2.0","timestamp":"` + past + `","last_updated":"` + future + `","statements":[` + statement(past) + `]}`,
		"statement": `{"@context":"https://openvex.dev/ns/v0.2.0","timestamp":"` + past + `","statements":[` + statement(past) + `,` + statement(future) + `]}`,
	} {
		inside := vendor.Sign("sha256:"+strings.Repeat("a", 64), attest.PredicateOpenVEX, json.RawMessage(doc))
		beside := vendor.Sign(Digest([]byte(doc)), attest.PredicateOpenVEX, json.RawMessage(`{}`))
		for how, in := range map[string]struct{ document, bundle []byte }{"inside": {nil, inside}, "beside": {[]byte(doc), beside}} {
			if _, err := trusted.Import(in.document, in.bundle, evidencetest.Now); !errors.Is(err, attest.ErrFuture) {
				t.Errorf("%s, %s: %v", name, how, err)
			}
			if _, err := trusted.Import(in.document, in.bundle, evidencetest.Now.Add(time.Hour)); err != nil {
				t.Errorf("%s, %s, when its time has come: %v", name, how, err)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{"a.json": "doc", "a.json.sigstore.json": "bundle", "b.sigstore.json": "alone", "c.json": "unsigned"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := Load(dir, nil)
	if err != nil || len(files) != 2 || string(files[0].Document) != "doc" || string(files[0].Bundle) != "bundle" || files[1].Document != nil {
		t.Errorf("%+v, %v", files, err)
	}
	if _, err := Load("", []string{filepath.Join(dir, "none.sigstore.json")}); err == nil {
		t.Error("a file that is not there was read")
	}
	if err := os.WriteFile(filepath.Join(dir, "large.sigstore.json"), make([]byte, 2*MaxDocument+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, nil); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a large file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(`{"@context":"https://openvex.dev/ns","statements":[{"vulnerability":"x","status":"fixed","products":[{"hashes":{"sha256":"A"}}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Error(err)
			}
			return
		}
		i := Imported{Document: d, TrustedAuthor: "a"}
		one, body, err := i.Record()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Recorded(body)
		if err != nil || again.Digest != one.Digest {
			t.Errorf("its own form is not accepted: %v", err)
		}
	})
}
