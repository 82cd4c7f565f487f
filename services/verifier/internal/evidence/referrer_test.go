package evidence

import (
	"errors"
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
)

func TestParseReferrer(t *testing.T) {
	t.Parallel()
	subject := "sha256:" + strings.Repeat("a", 64)
	for name, tc := range map[string]struct {
		raw  string
		want Referrer
		err  error
	}{
		"a referrer":        {`{"subject":{"digest":"` + subject + `"}}`, Referrer{Subject: subject}, nil},
		"a summary":         {`{"subject":{"digest":"` + subject + `"},"annotations":{"` + attest.AnnotationPredicateType + `":"` + attest.PredicateVSA + `"}}`, Referrer{Subject: subject, Ours: true}, nil},
		"no subject":        {`{"layers":[]}`, Referrer{}, nil},
		"a subject of none": {`{"subject":{"digest":"sha256:1"}}`, Referrer{}, nil},
		"two subjects":      {`{"subject":{"digest":"` + subject + `"},"subject":{}}`, Referrer{}, ErrNotAnImage},
		"in capitals":       {`{"Subject":{"digest":"` + subject + `"}}`, Referrer{}, ErrNotAnImage},
		"no JSON":           {`hello`, Referrer{}, ErrNotAnImage},
	} {
		if got, err := parseReferrer([]byte(tc.raw)); got != tc.want || !errors.Is(err, tc.err) || tc.err == nil && err != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func FuzzReferrer(f *testing.F) {
	f.Add([]byte(`{"subject":{"digest":"sha256:` + strings.Repeat("a", 64) + `"},"annotations":{"` + attest.AnnotationPredicateType + `":"` + attest.PredicateVSA + `"}}`))
	f.Add([]byte(`{"Subject":{},"subject":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseReferrer(raw)
		switch {
		case err != nil:
			if !errors.Is(err, ErrNotAnImage) || r != (Referrer{}) {
				t.Errorf("%+v, %v", r, err)
			}
		case r.Subject != "" && imageref.CheckDigest(r.Subject) != nil:
			t.Errorf("the subject %q is not a digest", r.Subject)
		case r.Subject == "" && r.Ours:
			t.Error("a summary of nothing")
		}
	})
}
