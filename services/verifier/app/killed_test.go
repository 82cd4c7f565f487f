package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/services/verifier/app"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/policy"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/replay"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/verdictpb"
)

// replicaEnv names the file that tells the process of TestReplicaProcess what to run.
const replicaEnv = "SEAWORTHY_TEST_REPLICA"

// replica is what a verifier in a process of its own runs with.
type replica struct {
	NATS    string
	TLS     tlsx.Config
	DB      sqldb.Config
	KeyFile string
}

// TestReplicaProcess is no test but a replica, in a process that a test can kill.
func TestReplicaProcess(t *testing.T) {
	path := os.Getenv(replicaEnv)
	if path == "" {
		t.Skip("only for the processes of other tests")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r replica
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	source, err := tlsx.NewSource(r.TLS)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqldb.Open(t.Context(), r.DB, "verifier")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	cfg := app.Default()
	cfg.Trust.Roots = []app.RootConfig{{Name: "signer", Keys: []string{r.KeyFile}, States: attest.SignerStates()}}
	cfg.NATS = eventbus.Config{URL: r.NATS, Backoff: []time.Duration{20 * time.Millisecond}, MaxDeliver: 8, DrainTimeout: 2 * time.Second}
	bus, err := events.Connect(t.Context(), cfg.NATS, events.Verifier, source, obs.Discard(events.Verifier))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = bus.Ensure(t.Context()) }()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), cfg, service.Deps{
		Config: service.DefaultConfig(events.Verifier), Name: events.Verifier, Telemetry: obs.Discard(events.Verifier), TLS: source,
		Bus: bus, DB: db, Readiness: lifecycle.NewReadiness(), Listener: listener, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// process starts a replica in a process of its own.
func (f *fleet) process(dir string) (kill func()) {
	f.t.Helper()
	data, err := json.Marshal(replica{
		NATS: f.nats.URL(), TLS: f.nats.TLSConfig(tlsx.ServiceID(trustDomain, events.Verifier)), DB: f.db, KeyFile: f.cfg.Trust.Roots[0].Keys[0],
	})
	if err != nil {
		f.t.Fatal(err)
	}
	file, err := os.CreateTemp(dir, "replica-*.json")
	if err != nil {
		f.t.Fatal(err)
	}
	_, err = file.Write(data)
	if err := errors.Join(err, file.Close()); err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), os.Args[0], "-test.run", "^TestReplicaProcess$")
	cmd.Env = append(os.Environ(), replicaEnv+"="+file.Name())
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	killed := false
	kill = func() {
		if killed {
			return
		}
		killed = true
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			f.t.Errorf("the replica had ended by itself: %v\n%s", err, out.String())
		}
		_ = cmd.Wait() // it was killed
	}
	f.t.Cleanup(kill)
	return kill
}

// TestKilledInTheMiddle kills the replica that judges five hundred images again after a
// change of the policies. Another one goes on: each image changes once, and each change
// is published once.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	const images = 500
	f := newFleet(t)
	db, err := sqldb.Open(t.Context(), f.db, "verifier")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context(), store.Migrations()); err != nil {
		t.Fatal(err)
	}
	kept := store.New(db)
	rules := baseline(t)
	for i := range images {
		f.seed(kept, rules, i)
	}
	if _, err := kept.CreatePolicy(t.Context(), refuses(t), 10, store.Audit{ID: "one", Time: time.Now(), Headers: "{}"}); err != nil {
		t.Fatal(err)
	}
	published := make(chan map[string]int, 1)
	go func() {
		seen := map[string]int{}
		for {
			select {
			case e := <-f.verdicts:
				seen[fmt.Sprint(e.GetState(), " ", e.GetImage().GetDigest())]++
				if len(seen) < images {
					continue
				}
			case <-time.After(60 * time.Second):
			}
			published <- seen
			return
		}
	}()
	dir := t.TempDir()
	kill := f.process(dir)
	f.until(time.Minute, func() bool { return last(t, kept) >= images+50 })
	kill()
	done := last(t, kept) - images
	if _, err := kept.NextReevaluation(t.Context()); err != nil || done >= images {
		t.Fatalf("it was not in the middle: %d images, %v", done, err)
	}
	t.Logf("killed after %d of %d images", done, images)
	other := f.process(dir)
	f.until(3*time.Minute, func() bool {
		_, err := kept.NextReevaluation(t.Context())
		waiting, outboxErr := kept.Outbox(t.Context(), 1)
		return errors.Is(err, store.ErrNotFound) && outboxErr == nil && len(waiting) == 0
	})
	if n := last(t, kept); n != 2*images {
		t.Errorf("%d verdicts were stored, %d are one change of each image", n-images, images)
	}
	seen := <-published
	for what, n := range seen {
		if n != 1 || !strings.HasPrefix(what, eventv1.VerdictReachedEvent_STATE_FAIL.String()) {
			t.Errorf("%s was published %d times", what, n)
		}
	}
	if len(seen) != images {
		t.Errorf("%d of %d changes were published", len(seen), images)
	}
	// Nothing comes late, nor when another replica starts.
	f.process(dir)
	f.quiet(2 * time.Second)
	other()
}

func last(t *testing.T, kept store.Store) int {
	t.Helper()
	n, err := kept.LastSequence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// until waits for a condition.
func (f *fleet) until(d time.Duration, met func() bool) {
	f.t.Helper()
	for end := time.Now().Add(d); !met(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatal("it did not come to that in time")
		}
	}
}

// baseline are the rules of the pack.
func baseline(t *testing.T) replay.Rules {
	t.Helper()
	l, err := policy.NewLoader()
	if err != nil {
		t.Fatal(err)
	}
	data, err := policy.Pack("baseline")
	if err != nil {
		t.Fatal(err)
	}
	set, err := l.Parse("baseline", data)
	if err != nil {
		t.Fatal(err)
	}
	return replay.Rules{Policies: set}
}

// refuses is a policy that refuses every image.
func refuses(t *testing.T) store.Policy {
	t.Helper()
	l, err := policy.NewLoader()
	if err != nil {
		t.Fatal(err)
	}
	set, err := l.Parse("p", []byte(document("refuses", "**", "false")))
	if err != nil {
		t.Fatal(err)
	}
	return store.Policy{Name: "refuses", Digest: set[0].Digest, Document: set[0].Document, Repositories: set[0].Repositories}
}

// seed stores the verdict of an image without findings, and its evidence, as the
// verifier would by the baseline. It is not published.
func (f *fleet) seed(kept store.Store, rules replay.Rules, i int) {
	f.t.Helper()
	image := imageref.Ref{Registry: "r.example", Repository: fmt.Sprintf("team/app%d", i), Tag: "v1", Digest: fmt.Sprintf("sha256:%064x", i*7919)}
	now := time.Now().UTC()
	source := core.Attestation{PredicateType: core.PredicateReport, ManifestDigest: image.Digest, KeyID: f.key.Trusted().ID, SignTime: now.Add(-time.Minute)}
	spdx := source
	spdx.PredicateType = "https://spdx.dev/Document"
	e := core.PlatformEvidence{
		Digest: image.Digest, Attestations: []core.Attestation{source, spdx},
		Report: &core.Report{Source: source, Image: core.Image{User: "65532", NonRoot: true}, AdvisoryDigest: image.Digest, AdvisoryTime: now.Add(-time.Hour)},
	}
	made, err := replay.Judge(f.t.Context(), image, []core.PlatformEvidence{e}, rules, now)
	if err != nil || made.Verdict.State != core.StatePass {
		f.t.Fatal(made.Verdict.Reasons, err)
	}
	m, err := verdictpb.FromCore(made.Verdict)
	if err != nil {
		f.t.Fatal(err)
	}
	key, err := verdictpb.ChangeKey(m)
	if err != nil {
		f.t.Fatal(err)
	}
	body, err := verdictpb.Encode(m)
	if err != nil {
		f.t.Fatal(err)
	}
	saved, err := kept.Save(f.t.Context(), store.NewVerdict{
		Image: image, State: made.Verdict.State, Digest: m.GetDigest(), ChangeKey: key, Headers: "{}", CreateTime: now, Body: body,
		Documents: made.Documents, Revision: store.AnyRevision,
	})
	if err == nil {
		err = kept.Published(f.t.Context(), saved.Sequence)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}
