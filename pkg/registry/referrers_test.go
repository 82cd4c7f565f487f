package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func artifact(n int) Artifact {
	return Artifact{
		ArtifactType: "application/vnd.example.evidence+json",
		Content:      fmt.Appendf(nil, `{"n":%d}`, n),
		Annotations:  map[string]string{"example.n": fmt.Sprint(n)},
	}
}

func digests(ds []Descriptor) []string {
	var out []string
	for _, d := range ds {
		out = append(out, d.Digest)
	}
	slices.Sort(out)
	return out
}

// withOCISubject makes the registry in process confirm subjects, which it
// understands but does not say.
// checkManifest compares with the form of the image specification's example of
// an artifact with a subject.
func TestConcurrentWritersLoseNothing(t *testing.T) {
	for _, processes := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d processes", processes), func(t *testing.T) {
			f := newFixture(t, false)
			clients := []*Client{f.client(t)}
			for len(clients) < processes {
				clients = append(clients, f.client(t))
			}
			subject := f.push(t, clients[0], "v1")
			const writers = 20
			var wg sync.WaitGroup
			var mu sync.Mutex
			var want []string
			for i := range writers {
				wg.Go(func() {
					d, err := clients[i%processes].PutReferrer(t.Context(), f.repo(), subject, artifact(i))
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					want = append(want, d.Digest)
				})
			}
			wg.Wait()
			slices.Sort(want)
			got, err := listAll(t, clients[0], f.repo().WithDigest(subject.Digest))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, digests(got)); diff != "" || len(got) != writers {
				t.Errorf("referrers (-want +got)\n%s", diff)
			}
		})
	}
}

func TestLostEntriesAreRepaired(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	ref := f.repo().WithDigest(subject.Digest)
	tgt, err := c.target("test", ref)
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
	if err != nil {
		t.Fatal(err)
	}
	// Another writer overwrites the tag without having seen our entry, and does it
	// once more between our next write and the second look at it.
	overwrite := func() {
		if _, err := c.putManifest(t.Context(), tgt, ReferrersTag(subject.Digest), MediaTypeOCIIndex,
			[]byte(`{"schemaVersion":2,"mediaType":"`+MediaTypeOCIIndex+`","manifests":[],"annotations":{"kept":"yes"}}`)); err != nil {
			t.Error(err)
		}
	}
	overwrite()
	once := sync.OnceFunc(overwrite)
	c.sleep = func(ctx context.Context, _ time.Duration) error { once(); return ctx.Err() }
	second, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(2))
	if err != nil {
		t.Fatal(err)
	}
	got, err := listAll(t, c, ref)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(digests([]Descriptor{first, second}), digests(got)); diff != "" {
		t.Errorf("referrers (-want +got)\n%s", diff)
	}
	index, err := c.readReferrersTag(t.Context(), ref)
	if err != nil || string(index.annotations) != `{"kept":"yes"}` {
		t.Errorf("what others wrote is lost: %s, %v", index.annotations, err)
	}
}

func TestDanglingEntriesDoNotBlock(t *testing.T) {
	f := newFixture(t, false)
	c := f.client(t)
	subject := f.push(t, c, "v1")
	gone, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(1))
	if err != nil {
		t.Fatal(err)
	}
	del, err := http.NewRequest(http.MethodDelete, "http://"+f.host+"/v2/team/app/manifests/"+gone.Digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(del)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	want, err := c.PutReferrer(t.Context(), f.repo(), subject, artifact(2))
	if err != nil {
		t.Fatal(err)
	}
	got, err := listAll(t, c, f.repo().WithDigest(subject.Digest))
	if diff := cmp.Diff(digests([]Descriptor{want}), digests(got)); diff != "" || err != nil {
		t.Errorf("referrers: %v (-want +got)\n%s", err, diff)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory()
	for i := range maxRememberedSubjects + 10 {
		m.add(fmt.Sprint(i), listed(i))
	}
	if len(m.lists) > maxRememberedSubjects {
		t.Errorf("%d subjects", len(m.lists))
	}
	for i := range maxRememberedReferrers + 10 {
		m.add("one", listed(i))
		m.add("one", listed(i))
	}
	if n := len(m.of("one")); n != maxRememberedReferrers {
		t.Errorf("%d referrers", n)
	}
}

func TestKeyedLockEndsWithItsContext(t *testing.T) {
	k := newKeyedLock()
	unlock, err := k.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	unlock()
	if len(k.locks) != 0 {
		t.Errorf("%d locks are kept", len(k.locks))
	}
}
