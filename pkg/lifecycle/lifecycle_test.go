package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// journal notes events in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, s)
}

func (j *journal) got() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// component stops after the delay and then returns err.
func (j *journal) component(name string, delay time.Duration, err error) Component {
	return Component{Name: name, Run: func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(delay)
		j.add("stopped " + name)
		return err
	}}
}

func TestStopsInReverseOrderOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		j := &journal{}
		time.AfterFunc(time.Minute, cancel)
		// The first started would be the fastest to stop, were it told at once.
		err := Run(ctx, quiet, time.Minute,
			j.component("database", 0, nil), j.component("bus", time.Second, context.Canceled), j.component("server", 2*time.Second, nil))
		if err != nil {
			t.Error(err)
		}
		if d := cmp.Diff([]string{"stopped server", "stopped bus", "stopped database"}, j.got()); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

func TestFirstFailureStopsAll(t *testing.T) {
	boom := errors.New("boom")
	tests := map[string]struct {
		result  error
		want    error
		wantMsg string
	}{
		"error":       {boom, boom, "component worker: boom"},
		"early end":   {nil, nil, "component worker ended although nothing told it to"},
		"own context": {context.Canceled, context.Canceled, "component worker: context canceled"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &journal{}
				err := Run(t.Context(), quiet, time.Minute, j.component("database", 0, nil),
					Component{Name: "worker", Run: func(context.Context) error { time.Sleep(time.Second); return tt.result }},
					j.component("server", time.Second, errors.New("bad end")))
				if err == nil || !strings.Contains(err.Error(), tt.wantMsg) || tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("Run = %v, want %q", err, tt.wantMsg)
				}
				if !strings.Contains(err.Error(), "component server: bad end") {
					t.Errorf("Run = %v lacks the failure at the stop", err)
				}
				if d := cmp.Diff([]string{"stopped server", "stopped database"}, j.got()); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
			})
		})
	}
}

func TestOverTimeNamesTheComponent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		j := &journal{}
		began := time.Now()
		err := Run(ctx, quiet, 10*time.Second,
			j.component("database", 0, nil), j.component("stuck", time.Hour, nil), j.component("server", 4*time.Second, nil))
		if !errors.Is(err, ErrStopTimeout) || !strings.Contains(err.Error(), "component stuck") || strings.Contains(err.Error(), "database") {
			t.Errorf("Run = %v", err)
		}
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("stopping took %v, the budget is 10s for all", d)
		}
		time.Sleep(2 * time.Hour) // lets what was left behind end
		if !slices.Contains(j.got(), "stopped database") {
			t.Error("what came after the stuck component was not told to stop")
		}
	})
}

func TestRunWithoutComponentsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Run(ctx, quiet, time.Second); err != nil {
			t.Error(err)
		}
		if ctx.Err() == nil {
			t.Error("Run returned before its context ended")
		}
	})
}

func TestWithSignals(t *testing.T) {
	ctx, cancel := WithSignals(t.Context())
	defer cancel()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Error("SIGTERM did not end the context")
	}
}

func TestReadiness(t *testing.T) {
	r := NewReadiness()
	if err := r.Check(); err != nil {
		t.Errorf("nothing to wait for: %v", err)
	}
	down := errors.New("connection refused")
	r.Set("database", down)
	var bus error
	r.Probe("bus", func() error { return bus })
	if err := r.Check(); !errors.Is(err, down) || err.Error() != "database: connection refused" {
		t.Errorf("Check = %v", err)
	}
	bus = errors.New("no streams")
	if err := r.Check(); err == nil || err.Error() != "bus: no streams\ndatabase: connection refused" {
		t.Errorf("Check = %v", err)
	}
	r.Set("database", Degraded(nil))
	r.Set("bus", Degraded(bus))
	if err := r.Check(); err != nil {
		t.Errorf("Check = %v although all of it works", err)
	}
	if err := r.Components()["bus"]; !errors.Is(err, bus) || err.Error() != "degraded: no streams" {
		t.Errorf("a degraded component: %v", err)
	}
	r.Set("bus", nil)
	if err := r.Check(); err != nil {
		t.Errorf("Check = %v after all is well", err)
	}
}

func TestAdminHandler(t *testing.T) {
	r := NewReadiness()
	r.Set("database", errors.New("connection refused"))
	r.Set("eventbus", nil)
	reg := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "things_total", Help: "Things."})
	reg.MustRegister(counter)
	counter.Inc()
	h := AdminHandler(r, reg)
	get := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Code, w.Body.String()
	}

	if code, body := get("GET", "/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	code, body := get("GET", "/readyz")
	var ready struct {
		Ready      bool
		Components map[string]string
	}
	if err := json.Unmarshal([]byte(body), &ready); err != nil {
		t.Fatal(err)
	}
	if code != 503 || ready.Ready {
		t.Errorf("readyz: %d %s", code, body)
	}
	if d := cmp.Diff(map[string]string{"database": "connection refused", "eventbus": "ready"}, ready.Components); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	r.Set("database", Degraded(errors.New("slow")))
	if code, body := get("GET", "/readyz"); code != 200 || !strings.Contains(body, `"ready":true`) || !strings.Contains(body, "degraded: slow") {
		t.Errorf("readyz: %d %s", code, body)
	}
	if code, body := get("GET", "/metrics"); code != 200 || !strings.Contains(body, "things_total 1") {
		t.Errorf("metrics: %d %s", code, body)
	}
	if code, _ := get("POST", "/readyz"); code != 405 {
		t.Errorf("POST readyz: %d", code)
	}
}

func ExampleRun() {
	// The server is started last and stopped first, while what it needs is still there.
	part := func(name string) Component {
		return Component{Name: name, Run: func(ctx context.Context) error {
			<-ctx.Done()
			fmt.Println(name, "stopped")
			return nil
		}}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // in a main: lifecycle.WithSignals
	err := Run(ctx, slog.New(slog.DiscardHandler), 10*time.Second, part("database"), part("server"))
	fmt.Println(err)
	// Output:
	// server stopped
	// database stopped
	// <nil>
}
