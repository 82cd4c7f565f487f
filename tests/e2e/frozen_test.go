package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"

	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/tests/internal/allinone"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
)

// Somebody who may push and has no key breaks the list of referrers of images that are
// PASS, so that no later report can be found there. New advisories then tell of a critical
// vulnerability in all of them: none stays PASS.
func TestE2E_NobodyFreezesAPass(t *testing.T) {
	a := allinone.Start(t, nil)
	attacks := map[string]func(t *testing.T, repository, digest string){
		"oversized": func(t *testing.T, repository, digest string) {
			t.Helper()
			_, size := manifest(t, a, repository, digest)
			entry := map[string]any{"mediaType": types.OCIManifestSchema1, "digest": digest, "size": size}
			many := make([]any, 5000)
			for i := range many {
				many[i] = entry
			}
			body, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": types.OCIImageIndex, "manifests": many})
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, a, repository, digest, string(types.OCIImageIndex), body)
		},
		"image": func(t *testing.T, repository, digest string) {
			t.Helper()
			body, _ := manifest(t, a, repository, digest)
			overwrite(t, a, repository, digest, string(types.OCIManifestSchema1), body)
		},
		"empty": func(t *testing.T, repository, digest string) {
			t.Helper()
			overwrite(t, a, repository, digest, string(types.OCIImageIndex), []byte(`{"schemaVersion":2,"mediaType":"`+string(types.OCIImageIndex)+`","manifests":[]}`))
		},
	}
	digests := map[string]string{}
	for name := range attacks {
		digests[name] = images.Push(t, images.Clean(t, "frozen "+name), a.Registry()+"/e2e/frozen-"+name+":1")
	}
	for name, attack := range attacks {
		wantState(t, a.Verdict(t, digests[name]), verifierv1.Verdict_STATE_PASS)
		attack(t, "e2e/frozen-"+name, digests[name])
	}
	importAdvisories(t, a, []byte(newAdvisory))
	for name, digest := range digests {
		v := awaitNoPass(t, a, digest)
		t.Logf("%s: %s %v", name, v.GetState(), v.GetReasons())
	}
	// Nor does any become PASS again.
	time.Sleep(3 * time.Second) // an absence cannot be waited for
	for name, digest := range digests {
		if v := a.Verdict(t, digest); v.GetState() == verifierv1.Verdict_STATE_PASS {
			t.Errorf("%s is PASS again: %v", name, v)
		}
	}
}

// awaitNoPass waits until the verdict of an image is not PASS.
func awaitNoPass(t *testing.T, a *allinone.AllInOne, digest string) *verifierv1.Verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		answer, err := a.Verifier.GetVerdict(ctx, &verifierv1.GetVerdictRequest{Image: &typev1.ImageRef{Digest: digest}})
		if err != nil {
			t.Fatalf("the verdict stays PASS: %v", err)
		}
		if v := answer.GetVerdict(); v.GetState() != verifierv1.Verdict_STATE_PASS {
			return v
		}
		select {
		case <-ctx.Done():
			t.Fatal("the verdict stays PASS")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// overwrite puts something in the place of an image's list of referrers.
func overwrite(t *testing.T, a *allinone.AllInOne, repository, digest, mediaType string, body []byte) {
	t.Helper()
	answer, status := ask(t, a, http.MethodPut, repository, strings.Replace(digest, ":", "-", 1), mediaType, body)
	if status != http.StatusCreated {
		t.Fatalf("the registry answers %d: %s", status, answer)
	}
}

// manifest reads one from the registry.
func manifest(t *testing.T, a *allinone.AllInOne, repository, digest string) ([]byte, int) {
	t.Helper()
	body, status := ask(t, a, http.MethodGet, repository, digest, string(types.OCIManifestSchema1), nil)
	if status != http.StatusOK {
		t.Fatalf("the registry answers %d: %s", status, body)
	}
	return body, len(body)
}

func ask(t *testing.T, a *allinone.AllInOne, method, repository, reference, mediaType string, body []byte) ([]byte, int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.Registry()+"/v2/"+repository+"/manifests/"+reference, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	req.Header.Set("Accept", mediaType)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, resp.StatusCode
}
