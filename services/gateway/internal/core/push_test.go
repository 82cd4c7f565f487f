package core_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/core"
)

const (
	manifest = "application/vnd.oci.image.manifest.v1+json"
	index    = "application/vnd.oci.image.index.v1+json"
	bundle   = "application/vnd.dev.sigstore.bundle.v0.3+json"
)

var digest = "sha256:" + strings.Repeat("a1", 32)

func classifier() core.Classifier {
	return core.Classifier{
		Registry: "registry.example:5000",
		IsOwnArtifact: func(mediaType, artifactType, tag string) bool {
			return mediaType == bundle || artifactType == bundle || strings.HasPrefix(tag, "sha256-")
		},
	}
}

func push(change func(*core.Event)) core.Event {
	e := core.Event{ID: "e1", Action: core.ActionPush, Repository: "team/app", Tag: "1.0", Digest: digest, MediaType: manifest, Host: "evil.example"}
	change(&e)
	return e
}

func TestClassify_push(t *testing.T) {
	for name, change := range map[string]func(*core.Event){
		"by tag":        func(*core.Event) {},
		"by digest":     func(e *core.Event) { e.Tag = "" },
		"index":         func(e *core.Event) { e.MediaType = index },
		"docker":        func(e *core.Event) { e.MediaType = "application/vnd.docker.distribution.manifest.v2+json" },
		"manifest list": func(e *core.Event) { e.MediaType = "application/vnd.docker.distribution.manifest.list.v2+json" },
		"without id":    func(e *core.Event) { e.ID = "" },
		"with reference": func(e *core.Event) {
			e.References = []core.Reference{{MediaType: "application/vnd.oci.image.config.v1+json"}}
		},
		// Unnoticed, each would leave the tag with the verdict of what it meant before.
		"tagged evidence by artifact type": func(e *core.Event) { e.ArtifactType = bundle },
		"tagged evidence by reference":     func(e *core.Event) { e.References = []core.Reference{{MediaType: bundle}} },
		"tagged manifest of another type": func(e *core.Event) {
			e.MediaType = "application/vnd.docker.distribution.manifest.v1+prettyjws"
		},
		// A runtime ignores what an image says besides.
		"image with a layer of evidence": func(e *core.Event) {
			e.Tag, e.References = "", []core.Reference{
				{MediaType: "application/vnd.oci.image.config.v1+json"}, {MediaType: "application/vnd.oci.image.layer.v1.tar+gzip"}, {MediaType: bundle},
			}
		},
		"image called evidence": func(e *core.Event) {
			e.Tag, e.ArtifactType, e.References = "", bundle, []core.Reference{
				{MediaType: "application/vnd.oci.image.config.v1+json"}, {MediaType: "application/vnd.oci.image.layer.v1.tar+gzip"},
			}
		},
		"index with evidence": func(e *core.Event) {
			e.Tag, e.MediaType, e.References = "", index, []core.Reference{{MediaType: manifest}, {MediaType: manifest, ArtifactType: bundle}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := push(change)
			got, reason, err := classifier().Classify(e)
			if err != nil || reason != "" {
				t.Fatalf("reason %q, error %v", reason, err)
			}
			// The registry is that of the source, whatever the event says.
			want := &core.Push{EventID: e.ID, MediaType: e.MediaType, Image: imageref.Ref{
				Registry: "registry.example:5000", Repository: "team/app", Tag: e.Tag, Digest: digest,
			}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A tag whose new manifest has a digest that nobody here reads has a new meaning all the
// same: it must not keep the verdict of the old one.
func TestClassify_taggedOtherAlgorithm(t *testing.T) {
	for _, d := range []string{"sha512:" + strings.Repeat("0f", 64), "sha384:" + strings.Repeat("0f", 48), "blake3:" + strings.Repeat("0f", 32)} {
		got, reason, err := classifier().Classify(push(func(e *core.Event) { e.Digest = d }))
		want := &core.Push{EventID: "e1", MediaType: manifest, Image: imageref.Ref{Registry: "registry.example:5000", Repository: "team/app", Tag: "1.0"}}
		if diff := cmp.Diff(want, got); diff != "" || reason != "" || err != nil {
			t.Errorf("reason %q, error %v\n%s", reason, err, diff)
		}
	}
}

func TestClassify_filtered(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*core.Event)
		want   core.Reason
	}{
		"other":         {func(e *core.Event) { e.Action = core.ActionOther }, core.ReasonAction},
		"delete":        {func(e *core.Event) { e.Action = core.ActionDelete }, core.ReasonAction},
		"blob":          {func(e *core.Event) { e.MediaType, e.Tag = "application/octet-stream", "" }, core.ReasonNotManifest},
		"no media type": {func(e *core.Event) { e.MediaType, e.Tag = "", "" }, core.ReasonNotManifest},
		"own artifact":  {func(e *core.Event) { e.ArtifactType, e.Tag = bundle, "" }, core.ReasonOwnArtifact},
		"fallback tag":  {func(e *core.Event) { e.Tag, e.MediaType = "sha256-abc", index }, core.ReasonOwnArtifact},
		"own by reference": {func(e *core.Event) {
			e.Tag, e.References = "", []core.Reference{{MediaType: "application/vnd.oci.empty.v1+json"}, {MediaType: bundle}}
		}, core.ReasonOwnArtifact},
		"index of evidence": {func(e *core.Event) {
			e.Tag, e.MediaType, e.References = "", index, []core.Reference{{MediaType: manifest, ArtifactType: bundle}}
		}, core.ReasonOwnArtifact},
		"sha512 without tag": {func(e *core.Event) { e.Tag, e.Digest = "", "sha512:"+strings.Repeat("0f", 64) }, core.ReasonDigestAlgorithm},
	} {
		t.Run(name, func(t *testing.T) {
			got, reason, err := classifier().Classify(push(tt.change))
			if got != nil || err != nil || reason != tt.want {
				t.Fatalf("push %v, reason %q, error %v; want reason %q", got, reason, err, tt.want)
			}
		})
	}
}

func TestClassify_invalid(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*core.Event)
		field  string
	}{
		"no digest":        {func(e *core.Event) { e.Digest = "" }, "digest"},
		"short digest":     {func(e *core.Event) { e.Digest = "sha256:ab" }, "digest"},
		"short sha512":     {func(e *core.Event) { e.Digest = "sha512:ab" }, "digest"},
		"no repository":    {func(e *core.Event) { e.Repository = "" }, "repository"},
		"upper case":       {func(e *core.Event) { e.Repository = "Team/App" }, "repository"},
		"path traversal":   {func(e *core.Event) { e.Repository = "../../etc" }, "repository"},
		"registry smuggle": {func(e *core.Event) { e.Repository = "evil.example:443/app" }, "repository"},
		"long repository":  {func(e *core.Event) { e.Repository = strings.Repeat("a", 256) }, "repository"},
		"tag with colon":   {func(e *core.Event) { e.Tag = "a:b" }, "tag"},
		"long tag":         {func(e *core.Event) { e.Tag = strings.Repeat("a", 129) }, "tag"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := classifier().Classify(push(tt.change))
			var invalid *core.InvalidError
			if !errors.As(err, &invalid) || invalid.Field != tt.field {
				t.Fatalf("error %v, want one about %s", err, tt.field)
			}
		})
	}
}

func TestHint(t *testing.T) {
	sum := strings.Repeat("5e", 32)
	image := func(digest string) imageref.Ref {
		return imageref.Ref{Registry: "registry.example:5000", Repository: "team/app", Digest: digest}
	}
	referrer := func(subject, artifactType string) *core.Hint {
		return &core.Hint{Kind: core.HintReferrer, EventID: "e1", Image: image(subject), Referrer: digest, ArtifactType: artifactType}
	}
	for name, tt := range map[string]struct {
		change func(*core.Event)
		want   *core.Hint
	}{
		"evidence by digest":  {func(e *core.Event) { e.ArtifactType, e.Tag = bundle, "" }, referrer("", bundle)},
		"evidence by layer":   {func(e *core.Event) { e.Tag, e.References = "", []core.Reference{{MediaType: bundle}} }, referrer("", "")},
		"evidence with a tag": {func(e *core.Event) { e.ArtifactType = bundle }, nil},
		"referrers tag":       {func(e *core.Event) { e.Tag, e.MediaType = "sha256-"+sum, index }, referrer("sha256:"+sum, "")},
		"attestation tag":     {func(e *core.Event) { e.Tag = "sha256-" + sum + ".att" }, referrer("sha256:"+sum, "")},
		"no such digest":      {func(e *core.Event) { e.Tag = "sha256-abc" }, referrer("", "")},
		"deletion":            {func(e *core.Event) { e.Action, e.MediaType, e.Tag = core.ActionDelete, "", "" }, &core.Hint{Kind: core.HintDeleted, EventID: "e1", Image: image(digest)}},
		"deletion of a tag":   {func(e *core.Event) { e.Action, e.Digest = core.ActionDelete, "" }, nil},
		"image":               {func(*core.Event) {}, nil},
		"pull":                {func(e *core.Event) { e.Action, e.ArtifactType = core.ActionOther, bundle }, nil},
		"blob":                {func(e *core.Event) { e.MediaType, e.Tag = "application/octet-stream", "" }, nil},
		"bad repository":      {func(e *core.Event) { e.Action, e.Repository = core.ActionDelete, "../etc" }, nil},
		"bad digest":          {func(e *core.Event) { e.ArtifactType, e.Digest, e.Tag = bundle, "sha256:ab", "" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, classifier().Hint(push(tt.change))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
