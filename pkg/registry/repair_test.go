package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

// overwrite puts something below the referrers tag, as anybody may who can push.
func (f *fixture) overwrite(t *testing.T, subject Descriptor, mediaType, content string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPut,
		"http://"+f.host+"/v2/team/app/manifests/"+ReferrersTag(subject.Digest), strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("the registry answers %s", resp.Status)
	}
}

// loggedClient is a client whose log and metrics can be read.
func (f *fixture) loggedClient(t *testing.T) (*Client, *bytes.Buffer, *obs.Telemetry) {
	t.Helper()
	var logs bytes.Buffer
	telemetry := obs.Discard("test")
	telemetry.Logger = slog.New(slog.NewJSONHandler(&logs, nil))
	c, err := New(Config{Registries: []Host{{Host: f.host, Insecure: true}}}, telemetry)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, &logs, telemetry
}

func repairsCounted(t *testing.T, telemetry *obs.Telemetry) map[string]float64 {
	t.Helper()
	families, err := telemetry.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, family := range families {
		if !strings.Contains(family.GetName(), "registry_tag_repairs") {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "damage" {
					out[l.GetValue()] = m.GetCounter().GetValue()
				}
			}
		}
	}
	return out
}

// TestBrokenReferrersTag: what a stranger puts below the referrers tag is no reason to
// read "none", and the next writer repairs it.
func TestBrokenReferrersTag(t *testing.T) {
	for _, tc := range []struct {
		name, mediaType, content, damage string
	}{
		{"an image", MediaTypeOCIManifest, testManifest, damageNotIndex},
		{"a web page", "text/html", "<html>", damageNotIndex},
		{"text", "text/plain", "sha256", damageNotIndex},
		{"an index of another kind", MediaTypeDockerList, `{"schemaVersion":2,"mediaType":"` + MediaTypeDockerList + `","manifests":[]}`, damageNotIndex},
		{"two lists", MediaTypeOCIIndex, `{"manifests":[],"Manifests":[]}`, damageNotIndex},
		{"no list", MediaTypeOCIIndex, `{"schemaVersion":2}`, damageNotIndex},
		{"too large", MediaTypeOCIIndex, `{"schemaVersion":2,"manifests":[],"x":"` + strings.Repeat("x", int(DefaultMaxManifest)) + `"}`, damageTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, false)
			c, logs, telemetry := f.loggedClient(t)
			subject := f.push(t, c, "v1")
			ref := f.repo().WithDigest(subject.Digest)
			if _, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(0)); err != nil {
				t.Fatal(err)
			}
			c.written.only(ref.Name()+"@"+ref.Digest, nil...) // as long after
			f.overwrite(t, subject, tc.mediaType, tc.content)

			l, err := c.Referrers(t.Context(), ref, Filter{})
			if !errors.Is(err, ErrReferrersTag) || Temporary(err) || len(l.Referrers) > 0 {
				t.Errorf("a reader gets %+v, %v", l, err)
			}
			if err := c.DeleteReferrer(t.Context(), ref, Digest([]byte("gone"))); err != nil {
				t.Errorf("deleting: %v", err)
			}
			d, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := listAll(t, c, ref); err != nil || len(got) != 1 || got[0].Digest != d.Digest {
				t.Errorf("after the repair: %v, %v", got, err)
			}
			old := Digest([]byte(tc.content))
			resp, err := http.Get("http://" + f.host + "/v2/team/app/manifests/" + old)
			if err != nil {
				t.Fatal(err)
			}
			kept, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			if err != nil || string(kept) != tc.content {
				t.Errorf("what was replaced is gone: %s, %v", resp.Status, err)
			}
			if !strings.Contains(logs.String(), `"level":"WARN"`) || !strings.Contains(logs.String(), old) {
				t.Errorf("the log does not name %s: %s", old, logs)
			}
			if diff := cmp.Diff(map[string]float64{tc.damage: 1}, repairsCounted(t, telemetry)); diff != "" {
				t.Errorf("counted (-want +got)\n%s", diff)
			}
		})
	}
}

// TestBrokenReferrersTag_Entries: what is readable stays.
func TestBrokenReferrersTag_Entries(t *testing.T) {
	f := newFixture(t, false)
	c, logs, telemetry := f.loggedClient(t)
	subject := f.push(t, c, "v1")
	ref := f.repo().WithDigest(subject.Digest)
	theirs := f.push(t, c, "theirs")
	theirs.ArtifactType = "application/vnd.theirs"
	entry, err := json.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	// Not all registries look at what they store; this one does.
	plant := func(content string) {
		f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if !strings.HasSuffix(r.URL.Path, "/manifests/"+ReferrersTag(subject.Digest)) || content == "" {
				next.ServeHTTP(w, r)
				return
			}
			if r.Method == http.MethodPut {
				content = ""
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", MediaTypeOCIIndex)
			io.WriteString(w, content)
		})
	}
	plant(`{"schemaVersion":2,"manifests":[null,{"digest":7},` + string(entry) + `,"x",[]],"annotations":{"a":7}}`)
	l, err := c.Referrers(t.Context(), ref, Filter{})
	if err != nil || !l.Has(theirs.Digest) || len(l.Rejected) != 1 {
		t.Fatalf("%+v, %v", l, err)
	}
	ours, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
	if err != nil {
		t.Fatal(err)
	}
	got, err := listAll(t, c, ref)
	if diff := cmp.Diff([]Descriptor{theirs, ours}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if n := repairsCounted(t, telemetry)[damageGarbage]; n != 1 || !strings.Contains(logs.String(), `"kept":1`) {
		t.Errorf("counted %v, logged %s", n, logs)
	}
	// Garbage alone is no reason to write: a stranger must not have us write forever.
	plant(`{"schemaVersion":2,"manifests":[7,` + mustJSON(t, ours) + `]}`)
	before := f.count("PUT /v2/team/app/manifests/sha256-")
	if _, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1)); err != nil {
		t.Fatal(err)
	}
	if n := f.count("PUT /v2/team/app/manifests/sha256-"); n != before {
		t.Errorf("%d writes although all was listed", n-before)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestBrokenReferrersTag_Flood: whoever lists as much as anybody reads does not hide
// ours, and does not make the index grow.
func TestBrokenReferrersTag_Flood(t *testing.T) {
	f := newFixture(t, false)
	c, _, telemetry := f.loggedClient(t)
	c.cfg.MaxReferrers, c.cfg.MaxManifest = 5, 64<<10
	subject := f.push(t, c, "v1")
	ref := f.repo().WithDigest(subject.Digest)
	theirs := mustJSON(t, f.push(t, c, "theirs"))
	index := func(n int, entry string) string {
		return `{"schemaVersion":2,"manifests":[` + strings.TrimSuffix(strings.Repeat(entry+",", n), ",") + `]}`
	}
	big := strings.Replace(theirs, "{", `{"annotations":{"a":"`+strings.Repeat("<", 20<<10)+`"},`, 1)
	full := strings.Replace(theirs, "{", `{"annotations":{"a":"`+strings.Repeat("<", 64<<10-500)+`"},`, 1)
	for name, tc := range map[string]struct {
		index  string
		damage string
	}{
		"more than is read": {index(5, theirs), ""},
		"many":              {index(5*listedFactor, theirs), damageNoRoom},
		"too many":          {index(5*listedFactor+1, theirs), damageNoRoom},
		"large entries":     {index(3, big), ""},
		"no room":           {index(1, full), damageNoRoom},
	} {
		t.Run(name, func(t *testing.T) {
			f.overwrite(t, subject, MediaTypeOCIIndex, tc.index)
			before := repairsCounted(t, telemetry)[damageNoRoom]
			ours, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
			if err != nil {
				t.Fatal(err)
			}
			doc, err := c.readTag(t.Context(), "read", imageref.Ref{Registry: f.host, Repository: "team/app", Tag: ReferrersTag(subject.Digest)})
			if err != nil || len(doc.raw) > 64<<10 {
				t.Fatalf("%d bytes, %v", len(doc.raw), err)
			}
			l, err := c.Referrers(t.Context(), ref, Filter{})
			if err != nil || !l.Has(ours.Digest) {
				t.Errorf("ours cannot be seen: %+v, %v", l, err)
			}
			if n := repairsCounted(t, telemetry)[damageNoRoom] - before; (n == 1) != (tc.damage != "") {
				t.Errorf("%v repairs", n)
			}
		})
	}
}

// TestBrokenReferrersTag_Fight: somebody who breaks the tag each time does not keep a
// writer forever.
func TestBrokenReferrersTag_Fight(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	fights := 0
	c.sleep = func(ctx context.Context, _ time.Duration) error {
		fights++
		f.overwrite(t, subject, MediaTypeOCIManifest, testManifest)
		return ctx.Err()
	}
	before := f.count("")
	_, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
	if !Temporary(err) || fights != maxRepairs {
		t.Errorf("after %d repairs: %v", fights, err)
	}
	if n := f.count("") - before; n > 8*maxRepairs {
		t.Errorf("%d requests", n)
	}
}

// TestReferrersTag_NotTheRegistry: a page that somebody between us and the registry
// answers with is not what lies below the tag: it is not repaired, and not "none".
func TestReferrersTag_NotTheRegistry(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter){
		"web page": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<html>please log in</html>")
		},
		"unnamed page":     func(w http.ResponseWriter) { io.WriteString(w, "\n <!doctype html>") },
		"overloaded":       func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"nobody but a 404": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) },
		"cut short": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"manifests":[]}`)
		},
		"no such reposit.":  func(w http.ResponseWriter) { registryError(w, http.StatusNotFound, "NAME_UNKNOWN", "no") },
		"not authenticated": func(w http.ResponseWriter) { registryError(w, http.StatusForbidden, "DENIED", "no") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, false)
			c := f.client(t, func(c *Config) { c.MaxAttempts = 1 })
			subject := f.push(t, c, "v1")
			before := f.count("PUT /v2/team/app/manifests/sha256-")
			f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.Method == http.MethodPut || strings.Contains(r.URL.Path, "/blobs/") || r.URL.Path == "/v2/" {
					next.ServeHTTP(w, r)
					return
				}
				answer(w)
			})
			l, err := c.Referrers(t.Context(), f.repo().WithDigest(subject.Digest), Filter{})
			if err == nil || errors.Is(err, ErrReferrersTag) {
				t.Errorf("%+v, %v", l, err)
			}
			if strings.Contains(name, "404") || strings.Contains(name, "such") {
				return
			}
			if _, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1)); err == nil {
				t.Error("written without having been read")
			}
			if n := f.count("PUT /v2/team/app/manifests/sha256-"); n != before {
				t.Error("the tag was overwritten unread")
			}
		})
	}
}

// TestReferrers_Both: what a writer put into the tag is found although the registry
// answers the API, and the other way round.
func TestReferrers_Both(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	ref := f.repo().WithDigest(subject.Digest)
	inTag, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
	if err != nil {
		t.Fatal(err)
	}
	var api []Descriptor
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			w.Header().Set("Content-Type", MediaTypeOCIIndex)
			io.WriteString(w, page(api...))
			return
		}
		if r.Method == http.MethodPut {
			w.Header().Set("OCI-Subject", subject.Digest) // and lists nothing
		}
		next.ServeHTTP(w, r)
	})
	if got, err := listAll(t, c, ref); err != nil || len(got) != 1 || got[0].Digest != inTag.Digest {
		t.Errorf("an empty API: %v, %v", got, err)
	}
	confirmed, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(2))
	if err != nil {
		t.Fatal(err)
	}
	api = []Descriptor{inTag, listed(7)}
	got, err := listAll(t, c, ref)
	if diff := cmp.Diff(digests([]Descriptor{inTag, confirmed, listed(7)}), digests(got)); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	// A stranger's image below the tag does not hide what the API lists, and is named.
	f.overwrite(t, subject, MediaTypeOCIManifest, testManifest)
	l, err := c.Referrers(t.Context(), ref, Filter{})
	if err != nil || len(l.Referrers) != 2 || len(l.Rejected) != 1 || !strings.Contains(l.Rejected[0].Why, ErrReferrersTag.Error()) {
		t.Errorf("%+v, %v", l, err)
	}
	api = nil
	if l, err := c.Referrers(t.Context(), ref, Filter{}); !errors.Is(err, ErrReferrersTag) {
		t.Errorf("nothing is known: %+v, %v", l, err)
	}
}

// TestReferrers_NoAPI: a page for people is no API, and the tag decides; a registry that
// says nothing of its own about the tag has to know the subject.
func TestReferrers_NoAPI(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case strings.Contains(r.URL.Path, "/referrers/"):
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, "<!doctype html>")
		case strings.Contains(r.URL.Path, "/manifests/sha256-") && r.Method == http.MethodGet:
			http.NotFound(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
	if got, err := listAll(t, c, f.repo().WithDigest(subject.Digest)); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := c.Referrers(t.Context(), f.repo().WithDigest(Digest(nil)), Filter{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a subject that is not there: %+v, %v", got, err)
	}
	f.intercept(nil)
	d, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
	if err != nil {
		t.Fatal(err)
	}
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			http.Redirect(w, r, "/portal", http.StatusFound)
			return
		}
		if r.URL.Path == "/portal" {
			io.WriteString(w, "<html>")
			return
		}
		next.ServeHTTP(w, r)
	})
	if got, err := listAll(t, c, f.repo().WithDigest(subject.Digest)); err != nil || !slices.Equal(digests(got), []string{d.Digest}) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestReferrers_RedirectedAndThrottled: the pause that the registry asks for is kept,
// and after our patience it is unavailable, not without referrers.
func TestReferrers_RedirectedAndThrottled(t *testing.T) {
	f := newFixture(t, true)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	slept := recordSleeps(c)
	asked := 0
	f.intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case strings.Contains(r.URL.Path, "/referrers/"):
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case r.URL.Path == "/elsewhere":
			asked++
			w.Header().Set("Retry-After", "20")
			registryError(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "slow down")
		default:
			next.ServeHTTP(w, r)
		}
	})
	l, err := c.Referrers(t.Context(), f.repo().WithDigest(subject.Digest), Filter{})
	failure := new(Error)
	if !Temporary(err) || !errors.As(err, &failure) || failure.RetryAfter != 20*time.Second {
		t.Errorf("%+v, %v", l, err)
	}
	if asked != DefaultMaxAttempts || len(*slept) != asked-1 || slices.Min(*slept) < 20*time.Second {
		t.Errorf("asked %d times with pauses of %v", asked, *slept)
	}
}

func TestPutTaggedLayer_Repairs(t *testing.T) {
	for name, tc := range map[string]struct{ mediaType, content string }{
		"an index":  {MediaTypeOCIIndex, `{"schemaVersion":2,"mediaType":"` + MediaTypeOCIIndex + `","manifests":[]}`},
		"text":      {"text/plain", "x"},
		"too large": {MediaTypeOCIManifest, `{"x":"` + strings.Repeat("x", int(DefaultMaxManifest)) + `"}`},
		"no layers": {MediaTypeOCIManifest, `{"schemaVersion":2,"mediaType":"` + MediaTypeOCIManifest + `","layers":[7]}`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, false)
			c, logs, _ := f.loggedClient(t)
			subject := f.push(t, c, "v1")
			tgt, err := c.target("push", f.repo())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.putManifest(t.Context(), tgt, ReferrersTag(subject.Digest)+".att", tc.mediaType, []byte(tc.content)); err != nil {
				t.Fatal(err)
			}
			if err := c.PutTaggedLayer(t.Context(), f.repo().WithDigest(subject.Digest), ".att", layer("x", 1), ofKind("x")); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{`{"x":1}`}, f.layers(t, c, subject)); diff != "" {
				t.Errorf("layers (-want +got)\n%s", diff)
			}
			if !strings.Contains(logs.String(), Digest([]byte(tc.content))) {
				t.Errorf("the log does not name what was replaced: %s", logs)
			}
		})
	}
}
