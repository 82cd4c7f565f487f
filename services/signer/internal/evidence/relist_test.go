package evidence_test

import (
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

// TestWriter_BrokenReferrersTag: a stranger who can push overwrites the referrers tag, or
// deletes what it points to. The next claim, whatever it is, lists all again that is in
// force.
func TestWriter_BrokenReferrersTag(t *testing.T) {
	for name, damage := range map[string]func(f *fixture, ref imageref.Ref){
		"an image": func(f *fixture, ref imageref.Ref) {
			f.registry.Overwrite(ref, registry.MediaTypeOCIManifest, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
				`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`)
		},
		"too large": func(f *fixture, ref imageref.Ref) {
			f.registry.Overwrite(ref, registry.MediaTypeOCIIndex, `{"schemaVersion":2,"manifests":[],"x":"`+strings.Repeat("x", 5<<20)+`"}`)
		},
		"a web page": func(f *fixture, ref imageref.Ref) { f.registry.Overwrite(ref, "text/html", "<html>") },
		"deleted": func(f *fixture, ref imageref.Ref) {
			f.registry.Delete(ref, registry.ReferrersTag(ref.Digest))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, false)
			ref := f.registry.PushImage("team/app")
			attached := attach(t, f.writer(t, f.store), ref)
			damage(f, ref)
			w := f.writer(t, f.store)
			if _, err := w.Attach(t.Context(), ref, claims("first")[1:2]); err != nil {
				t.Fatal(err)
			}
			f.check(t, ref, attached)
		})
	}
}

// TestWriter_ConfirmedAndNotListed: a registry says of each attestation that it lists it,
// and lists nothing. The tag does.
func TestWriter_ConfirmedAndNotListed(t *testing.T) {
	f := newFixture(t, false)
	f.registry.ConfirmSubjects()
	ref := f.registry.PushImage("team/app")
	attached := attach(t, f.writer(t, f.store), ref)
	f.check(t, ref, attached)
	f.check(t, ref, attach(t, f.writer(t, f.store), ref))
}
