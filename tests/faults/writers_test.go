package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/events/eventstest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/tests/internal/distribution"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
)

// writerEnv has the order of a process that writes, in JSON.
const writerEnv = "SEAWORTHY_TEST_WRITER"

// order is what one process writes.
type order struct {
	Name          string
	Writers, Each int
	Image         imageref.Ref
	NATS          string
	TLS           tlsx.Config
}

const (
	processes   = 2
	writersEach = 4
	writesEach  = 25
)

// TestWriters_TwoProcessesLoseNothing: eight writers in two processes of the
// operating system attach 200 attestations to one image, on the real Distribution
// registry, which has no referrers API: one tag lists them all. What makes them
// take turns is the lock in NATS alone.
func TestWriters_TwoProcessesLoseNothing(t *testing.T) {
	host := distribution.Start(t)
	ref := host + "/faults/crowded"
	digest := images.Push(t, images.Clean(t, "crowded"), ref+":1")
	bus := eventstest.Start(t)
	o := order{
		Writers: writersEach, Each: writesEach, NATS: bus.URL(),
		Image: imageref.Ref{Registry: host, Repository: "faults/crowded", Digest: digest},
		TLS:   bus.TLSConfig(tlsx.ServiceID(eventbustest.TrustDomain, events.Signer)),
	}
	var wg sync.WaitGroup
	for p := range processes {
		o := o
		o.Name = fmt.Sprintf("process-%d", p)
		wg.Go(func() {
			text, err := json.Marshal(o)
			if err != nil {
				t.Error(err)
				return
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWriters_Process$", "-test.timeout=4m")
			cmd.Env = append(os.Environ(), writerEnv+"="+string(text))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", o.Name, err, out)
			}
		})
	}
	wg.Wait()
	listed, err := writerClient(t, host).Referrers(t.Context(), o.Image, registry.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, d := range listed.Referrers {
		names[d.Annotations[attest.AnnotationPredicateType]] = true
	}
	if want := processes * writersEach * writesEach; len(listed.Referrers) != want || len(names) != want {
		t.Errorf("%d attestations are listed, %d different ones, want %d", len(listed.Referrers), len(names), want)
	}
}

// TestWriters_Process is one of the processes; alone it does nothing.
func TestWriters_Process(t *testing.T) {
	text := os.Getenv(writerEnv)
	if text == "" {
		t.Skip("it is run by TestWriters_TwoProcessesLoseNothing")
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	source, err := tlsx.NewSource(o.TLS)
	if err != nil {
		t.Fatal(err)
	}
	cfg := eventbus.DefaultConfig()
	cfg.URL = o.NATS
	bus, err := events.Connect(t.Context(), cfg, events.Signer, source, obs.Discard(events.Signer))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := bus.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	client := writerClient(t, o.Image.Registry)
	client.UseSubjectLock(func(ctx context.Context, key string) (func(), error) { return bus.Lock(ctx, events.LocksSigner, key) })
	subject, err := client.Resolve(t.Context(), o.Image)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range o.Writers {
		wg.Go(func() {
			for n := range o.Each {
				if err := write(t.Context(), client, o.Image, subject, fmt.Sprintf("https://example.com/%s/%d/%d", o.Name, w, n)); err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestWriters_BrokenTagOnDistribution: on the real Distribution registry a writer repairs a
// referrers tag that is somebody's image, or was removed, and keeps what it listed before;
// what is deleted is off the list, and deleting it again is no error.
func TestWriters_BrokenTagOnDistribution(t *testing.T) {
	host := distribution.Start(t)
	image := imageref.Ref{Registry: host, Repository: "faults/broken"}
	name := host + "/" + image.Repository
	image.Digest = images.Push(t, images.Clean(t, "broken"), name+":1")
	tag := strings.Replace(image.Digest, ":", "-", 1)
	client := writerClient(t, host)
	subject, err := client.Resolve(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	listed := func() map[string]string {
		l, err := writerClient(t, host).Referrers(t.Context(), image, registry.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, d := range l.Referrers {
			out[d.Annotations[attest.AnnotationPredicateType]] = d.Digest
		}
		return out
	}
	want := func(names ...string) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(listed())); !slices.Equal(got, names) {
			t.Errorf("listed are %v, want %v", got, names)
		}
	}
	attach := func(name string) {
		t.Helper()
		if err := write(t.Context(), client, image, subject, name); err != nil {
			t.Fatal(err)
		}
	}
	attach("a")
	stranger := images.Push(t, images.Clean(t, "stranger"), name+":"+tag)
	if _, err := writerClient(t, host).Referrers(t.Context(), image, registry.Filter{}); !errors.Is(err, registry.ErrReferrersTag) {
		t.Errorf("a reader of somebody's image gets %v", err)
	}
	attach("b")
	want("a", "b")
	if _, err := client.Resolve(t.Context(), image.WithDigest(stranger)); err != nil {
		t.Errorf("what was replaced is gone: %v", err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+host+"/v2/"+image.Repository+"/manifests/"+tag, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusAccepted {
		t.Fatal(answer.Status)
	}
	attach("c")
	want("a", "b", "c")
	superseded := listed()["b"]
	for range 2 {
		if err := client.DeleteReferrer(t.Context(), image, superseded); err != nil {
			t.Fatal(err)
		}
	}
	want("a", "c")
}

// write attaches one attestation. A writer that was crowded out says so, and tries
// again as its event would.
func write(ctx context.Context, c *registry.Client, image imageref.Ref, subject registry.Descriptor, name string) error {
	var err error
	for range 10 {
		_, err = c.PutReferrer(ctx, imageref.Ref{Registry: image.Registry, Repository: image.Repository}, subject, registry.Artifact{
			ArtifactType: attest.BundleMediaType, Content: []byte(`"` + name + `"`),
			Annotations: map[string]string{attest.AnnotationPredicateType: name},
		})
		if !registry.Temporary(err) {
			return err
		}
	}
	return err
}

func writerClient(t *testing.T, host string) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Config{Registries: []registry.Host{{Host: host, Insecure: true}}}, obs.Discard("test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
