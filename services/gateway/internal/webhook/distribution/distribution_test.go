package distribution_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/webhook"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/webhook/distribution"
	"github.com/seaworthy-dev/seaworthy/services/gateway/internal/webhook/webhooktest"
)

func TestParse(t *testing.T) {
	data, err := os.ReadFile("testdata/push.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := distribution.Adapter{}.Parse(data, webhook.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	zeros := "sha256:" + strings.Repeat("0", 63)
	want := []core.Event{
		{
			ID: "8f1c0c8e-6f6e-4c57-9c5a-2b2f6a1d7c11", Path: "events[0].target", Action: core.ActionPush, Host: "registry.example:5000",
			Repository: "team/app", Digest: zeros + "1", MediaType: "application/octet-stream",
		},
		{
			ID: "1b7b5d9e-9f39-4a9e-8d9b-7f0d4b9a2c22", Path: "events[1].target", Action: core.ActionPush, Host: "registry.example:5000",
			Repository: "team/app", Tag: "1.0", Digest: zeros + "2", MediaType: "application/vnd.oci.image.manifest.v1+json",
			References: []core.Reference{
				{MediaType: "application/vnd.oci.image.config.v1+json"},
				{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip"},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParse_unknownFieldsAndEmpty(t *testing.T) {
	got, err := distribution.Adapter{}.Parse([]byte(`{"events":[],"later":{"x":[1,2.5e3,null,true]}}`), webhook.DefaultLimits())
	if err != nil || len(got) != 0 {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestParse_refused(t *testing.T) {
	many := func(n int, one string) string { return strings.TrimSuffix(strings.Repeat(one+",", n), ",") }
	for name, tt := range map[string]struct{ in, want string }{
		"empty":         {"", "not JSON"},
		"not JSON":      {"hello", "not JSON"},
		"cut":           {`{"events":[`, "not JSON: unexpected EOF"},
		"array":         {`[]`, "not a JSON object"},
		"string":        {`"events"`, "not a JSON object"},
		"two":           {`{"events":[]}{"events":[]}`, "something follows"},
		"no events":     {`{}`, "events is missing"},
		"null events":   {`{"events":null}`, "events is missing"},
		"events object": {`{"events":{}}`, "events: a object where"},
		"wrong type":    {`{"events":[{"action":7}]}`, "action: a number where"},
		"no action":     {`{"events":[{"id":"x"}]}`, "events[0].action is missing"},
		"not UTF-8":     {"{\"events\":[{\"action\":\"\xff\"}]}", "not UTF-8"},
		"two names":     {`{"events":[],"events":[]}`, `the name "events" is there twice`},
		"capitals":      {`{"events":[],"Events":[]}`, `the name "Events" is not "events"`},
		"long s":        {`{"events":[{"action":"push","target":{"repoſitory":"team/app"}}]}`, `is not "repository"`},
		"deep":          {`{"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "nested deeper than 16"},
		"many events":   {`{"events":[` + many(257, `{"action":"pull"}`) + `]}`, "257 events, at most 256"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := distribution.Adapter{}.Parse([]byte(tt.in), webhook.DefaultLimits())
			var refused *webhook.ParseError
			if !errors.As(err, &refused) || !strings.Contains(refused.Detail, tt.want) {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// What clients of a registry can make as long as they like must not be refused: the
// registry would repeat it forever and never send what comes after.
func TestParse_clientsCannotBlockARegistry(t *testing.T) {
	long := strings.Repeat("a", 100_000)
	layers := strings.TrimSuffix(strings.Repeat(`{"mediaType":"`+long[:100]+`"},`, 5000), ",")
	got, err := distribution.Adapter{}.Parse([]byte(`{"events":[{"action":"push","target":{"mediaType":"`+long+`","references":[`+layers+`]},`+
		`"request":{"host":"`+long+`","useragent":"`+long+`"},"actor":{"`+long+`":"`+long+`"}}]}`), webhook.DefaultLimits())
	if err != nil {
		t.Fatalf("%.200v", err)
	}
	if e := got[0]; len(e.References) != 5000 || len(e.Host) > 300 {
		t.Errorf("%d references, a host of %d bytes", len(e.References), len(e.Host))
	}
}

func FuzzParse(f *testing.F) {
	if data, err := os.ReadFile("testdata/push.json"); err == nil {
		f.Add(data)
	}
	for _, s := range []string{
		`{}`, `{"events":[]}`, `{"events":[{"action":"push","target":{"tag":"a"}}]}`, `{"events":[{}]} x`,
		`{"events":[{"action":"\ud800","target":{"references":[{"mediaType":null}]}}]}`, `{"Events":[{"ACTION":"push"}]}`,
	} {
		f.Add([]byte(s))
	}
	limits := webhook.Limits{Events: 8, Depth: 8}
	classify := core.Classifier{Registry: "registry.example", IsOwnArtifact: func(string, string, string) bool { return false }}
	f.Fuzz(func(t *testing.T, data []byte) {
		events, err := distribution.Adapter{}.Parse(data, limits)
		if err != nil {
			var refused *webhook.ParseError
			if !errors.As(err, &refused) || refused.Detail == "" {
				t.Fatalf("error without a detail: %v", err)
			}
			return
		}
		if len(events) > limits.Events {
			t.Fatalf("%d events", len(events))
		}
		for _, e := range events {
			if e.Path == "" || len(e.Host) > 300 {
				t.Fatalf("not as promised: %+v", e)
			}
			push, reason, err := classify.Classify(e)
			if got := fmt.Sprint(push != nil, reason != "", err != nil); strings.Count(got, "true") != 1 {
				t.Fatalf("not exactly one of push, reason, error: %s", got)
			}
			if push != nil && (push.Image.Registry != "registry.example" || push.Image.Validate() != nil) {
				t.Fatalf("push of %+v", push.Image)
			}
		}
	})
}

func TestGolden(t *testing.T) {
	webhooktest.Run(t, "distribution", distribution.Adapter{}, func(h http.Header) {
		h.Set("Content-Type", distribution.MediaType)
		h.Set("Authorization", "Bearer "+webhooktest.Secret)
	})
}
