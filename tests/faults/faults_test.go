// Package faults breaks things while images are on their way, in a fleet of real
// processes, and checks that nothing is lost and nothing happens twice.
package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/tests/internal/gate"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
	"github.com/seaworthy-dev/seaworthy/tests/internal/procs"
)

// patience is how long an image may take although a service was killed.
const patience = 60 * time.Second

// push pushes a clean image under a tag of its own and returns its reference and
// digest.
func push(t *testing.T, f *procs.Fleet, label string) (ref, digest string) {
	t.Helper()
	ref = f.Registry.Addr() + "/faults/app:" + label
	return ref, images.Push(t, images.Clean(t, label), ref)
}

// settles looks once more at images that arrived, after all else of the test went
// through: an effect that happened a second time, late, is seen here.
func settles(t *testing.T, f *procs.Fleet, arrived map[string]string) {
	t.Helper()
	for ref, digest := range arrived {
		out, code := f.Ctl("attestations", ref, "-o", "json")
		if code != 0 {
			t.Errorf("attestations of %s: exit code %d", ref, code)
		} else if err := exactlyOnce(out); err != nil {
			t.Errorf("%s, looked at again: %v", ref, err)
		}
		ids := map[string]bool{}
		for _, n := range f.Subscriber.Received(digest) {
			ids[n.WebhookID] = true
		}
		if len(ids) != 1 {
			t.Errorf("%s, looked at again: %d different notifications", ref, len(ids))
		}
	}
}

// arrives waits until the image has passed, its verdict is signed, the subscriber
// was told exactly once, and the evidence is there exactly once.
func arrives(t *testing.T, f *procs.Fleet, ref, digest string) {
	t.Helper()
	f.WaitFor(patience, "the verdict of "+ref+" is PASS", func(context.Context) error {
		if out, code := f.Ctl("verdict", ref); code != 0 {
			return fmt.Errorf("exit code %d: %s", code, out)
		}
		return nil
	})
	f.WaitFor(patience, "all attestations are there", func(context.Context) error {
		out, code := f.Ctl("attestations", ref, "-o", "json")
		if code != 0 {
			return fmt.Errorf("exit code %d: %s", code, out)
		}
		return exactlyOnce(out)
	})
	f.WaitFor(patience, "the subscriber is told", func(context.Context) error {
		told := f.Subscriber.Received(digest)
		ids := map[string]bool{}
		for _, n := range told {
			ids[n.WebhookID] = true
			if n.Data.State != "PASS" {
				return fmt.Errorf("told %s", n.Data.State)
			}
		}
		if len(ids) != 1 {
			return fmt.Errorf("%d different notifications", len(ids))
		}
		return nil
	})
}

// exactlyOnce checks what `seaworthyctl attestations -o json` says: each of the
// four predicates once, each verified.
func exactlyOnce(out string) error {
	var answer struct {
		Attestations []struct {
			PredicateType string `json:"predicateType"`
			Verified      bool   `json:"verified"`
		} `json:"attestations"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return err
	}
	seen := map[string]int{}
	for _, a := range answer.Attestations {
		seen[a.PredicateType]++
		if !a.Verified {
			return fmt.Errorf("%s does not verify", a.PredicateType)
		}
	}
	var errs []error
	for _, predicate := range []string{
		"https://spdx.dev/Document", "https://in-toto.io/attestation/vulns/v0.2",
		"https://cosign.sigstore.dev/attestation/vuln/v1", "https://slsa.dev/verification_summary/v1",
	} {
		if seen[predicate] != 1 {
			errs = append(errs, fmt.Errorf("%d × %s", seen[predicate], predicate))
		}
	}
	return errors.Join(errs...)
}

// reached waits until a request waits at the gate, so that a service is known to be
// in the middle of its step.
func reached(t *testing.T, held <-chan struct{}) {
	t.Helper()
	select {
	case <-held:
	case <-time.After(patience):
		t.Fatal("the step was never reached")
	}
}

func TestFaults_ServicesKilledInTheMiddle(t *testing.T) {
	f := procs.Start(t, procs.Options{})
	arrived := map[string]string{}
	for _, step := range []struct {
		service, what string
		gate          *gate.Gate
		hold          gate.Match
	}{
		{"scanner", "while it pulls a layer", f.Registry, from("scanner", gate.Method(http.MethodGet, "/blobs/"))},
		{"signer", "while it attaches an attestation", f.Registry, from("signer", gate.Method(http.MethodPut, "/manifests/"))},
		{"verifier", "while it reads the evidence", f.Registry, from("verifier", gate.Method(http.MethodGet, "/blobs/"))},
		{"notifier", "while it tells the subscriber", f.Subscriber.Gate, gate.Method(http.MethodPost, "/")},
	} {
		t.Run(step.service, func(t *testing.T) {
			held := step.gate.Hold(step.hold)
			ref, digest := push(t, f, step.service)
			reached(t, held)
			t.Logf("killed %s", step.what)
			f.Kill(step.service)
			step.gate.Open()
			f.StartProcess(step.service)
			arrives(t, f, ref, digest)
			arrived[ref] = digest
		})
	}
	settles(t, f, arrived)
}

// from matches the requests of one service.
func from(service string, m gate.Match) gate.Match {
	return func(r *http.Request) bool {
		return strings.Contains(r.UserAgent(), "seaworthy-"+service) && m(r)
	}
}

// The gateway answers 202 only after the event is stored. Killed while it waits for
// that, it has answered nothing, and the registry sends again.
func TestFaults_GatewayKilledBeforeItAnswered(t *testing.T) {
	f := procs.Start(t, procs.Options{})
	f.Freeze("nats")
	answered := make(chan error, 1)
	go func() {
		status, err := f.Webhook(t.Context(), webhook(f, "sha256:"+strings.Repeat("0", 64)))
		if err == nil {
			err = fmt.Errorf("answered %d", status)
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("the gateway did not wait for NATS: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	ref, digest := push(t, f, "gateway")
	f.Kill("gateway")
	if err := <-answered; !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("a killed gateway %v", err)
	}
	f.Thaw("nats")
	f.StartProcess("gateway")
	arrives(t, f, ref, digest)
	after, last := push(t, f, "after")
	arrives(t, f, after, last)
	settles(t, f, map[string]string{ref: digest, after: last})
}

// webhook is an envelope of the Distribution registry with one push.
func webhook(f *procs.Fleet, digest string) string {
	return fmt.Sprintf(`{"events":[{"id":"faults","action":"push","target":{
		"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"repository":"faults/app"},
		"request":{"host":%q}}]}`, digest, f.Registry.Addr())
}

func TestFaults_NATSDownAndBack(t *testing.T) {
	f := procs.Start(t, procs.Options{})
	f.Kill("nats")
	status, err := f.Webhook(t.Context(), webhook(f, "sha256:"+strings.Repeat("0", 64)))
	if err != nil {
		t.Fatal(err)
	}
	if status != http.StatusServiceUnavailable {
		t.Errorf("without NATS the gateway answered %d, want 503", status)
	}
	ref, digest := push(t, f, "nats")
	// The registry keeps the notification and sends it until it is accepted.
	f.StartProcess("nats")
	for _, service := range procs.Services {
		f.WaitReady(service)
	}
	arrives(t, f, ref, digest)
	after, last := push(t, f, "after")
	arrives(t, f, after, last)
	settles(t, f, map[string]string{ref: digest, after: last})
}

func TestFaults_RegistryDownForAWhile(t *testing.T) {
	f := procs.Start(t, procs.Options{})
	f.Registry.Refuse(http.StatusServiceUnavailable, from("scanner", gate.Method(http.MethodGet, "/")))
	ref, digest := push(t, f, "registry")
	f.WaitFor(patience, "the image is pending", func(context.Context) error {
		if _, code := f.Ctl("verdict", ref); code != 2 {
			return fmt.Errorf("exit code %d, want 2 (UNKNOWN)", code)
		}
		return nil
	})
	f.Registry.Open()
	arrives(t, f, ref, digest)
}
