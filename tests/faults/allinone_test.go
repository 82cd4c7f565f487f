package faults

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"google.golang.org/grpc"
	"gopkg.in/yaml.v3"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/registryd"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/grpcx"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/output"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/ports"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
	"github.com/seaworthy-dev/seaworthy/tests/internal/repo"
)

// child is bin/seaworthy run, in a process of its own.
type child struct {
	t       *testing.T
	dataDir string
	args    []string
	logs    *output.Buffer
	cmd     *exec.Cmd
	ended   chan error
}

func newChild(t *testing.T) *child {
	t.Helper()
	root := repo.Root(t)
	binary := filepath.Join(root, "bin", "seaworthy")
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("%s is missing: run the tests by `make test`, which builds it", binary)
	}
	c := &child{t: t, dataDir: filepath.Join(t.TempDir(), "data"), logs: &output.Buffer{}}
	c.args = []string{binary, "run", "--data-dir", c.dataDir, "--set", "scanner.advisories.seed=[" + filepath.Join(root, "deploy", "advisories") + "]"}
	for _, port := range []string{"gateway", "registry", "nats", "scanner", "signer", "verifier", "notifier"} {
		c.args = append(c.args, "--set", fmt.Sprintf("ports.%s=%d", port, ports.Free(t)))
	}
	t.Cleanup(func() {
		c.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("logs:\n%s", c.logs)
		}
	})
	return c
}

// start starts the process and waits until it says that it is up.
func (c *child) start() {
	c.t.Helper()
	c.cmd = exec.Command(c.args[0], c.args[1:]...)
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	c.cmd.Stderr = c.logs
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.ended = make(chan error, 1)
	up := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(out)
		said := false
		for lines.Scan() {
			if !said && strings.HasPrefix(lines.Text(), "Seaworthy is up") {
				said = true
				close(up)
			}
		}
		_, _ = io.Copy(io.Discard, out)
		c.ended <- c.cmd.Wait()
	}()
	select {
	case <-up:
	case err := <-c.ended:
		c.ended = nil
		c.t.Fatalf("seaworthy run ended: %v", err)
	case <-time.After(90 * time.Second):
		c.t.Fatal("seaworthy run was not up in time")
	}
}

// end sends a signal and waits for the end.
func (c *child) end(signal syscall.Signal) {
	if c.ended == nil {
		return
	}
	_ = c.cmd.Process.Signal(signal) // it may have ended
	err := <-c.ended
	c.ended = nil
	if signal == syscall.SIGINT && err != nil {
		c.t.Errorf("seaworthy run did not end well: %v", err)
	}
}

// verdicts connects to the verifier as the operator of the data directory.
func (c *child) verdicts() (registry string, client verifierv1.VerdictServiceClient) {
	c.t.Helper()
	raw, err := os.ReadFile(filepath.Join(c.dataDir, "context.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	var file struct {
		TrustDomain string `yaml:"trust_domain"`
		Addresses   struct{ Verifier string }
		Registry    struct{ Host string }
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		c.t.Fatal(err)
	}
	certs := filepath.Join(c.dataDir, "certs")
	source, err := tlsx.NewSource(tlsx.Config{
		CAFile:   filepath.Join(certs, "ca.crt"),
		CertFile: filepath.Join(certs, "operator.crt"), KeyFile: filepath.Join(certs, "operator.key"),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	conn, err := grpcx.Dial(file.Addresses.Verifier, tlsx.ServiceID(file.TrustDomain, "verifier"),
		grpcx.ClientDeps{TLS: source, Telemetry: obs.Discard("tests")})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { closeConn(c.t, conn) })
	return file.Registry.Host, verifierv1.NewVerdictServiceClient(conn)
}

func closeConn(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

// pushOnce makes one attempt: what it returns nil for the registry acknowledged.
func pushOnce(ctx context.Context, img v1.Image, reference string) error {
	ref, err := name.ParseReference(reference, name.Insecure)
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	return remote.Write(ref, img, remote.WithContext(ctx), remote.WithTransport(transport), remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
}

// judged waits until every digest has a verdict, or is on its way to one no more.
func judged(t *testing.T, client verifierv1.VerdictServiceClient, digests []string, patience time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	open := digests
	for {
		var still, neverSeen []string
		for _, digest := range open {
			answer, err := client.GetVerdict(ctx, &verifierv1.GetVerdictRequest{Image: &typev1.ImageRef{Digest: digest}})
			if err != nil {
				t.Fatal(err)
			}
			v := answer.GetVerdict()
			if len(v.GetReasons()) > 0 && v.GetReasons()[0].GetCode() == "NEVER_SEEN" {
				neverSeen = append(neverSeen, digest)
			}
			if v.GetState() != verifierv1.Verdict_STATE_PASS {
				still = append(still, digest)
			}
		}
		if open = still; len(open) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("of %d acknowledged pushes %d have no verdict after %s, %d were never seen, for example %s",
				len(digests), len(open), patience, len(neverSeen), open[0])
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// TestAllInOne_findsPushesNobodyReported: the registry alone took a push, as another
// process that does not know the gateway. The scanner finds it by its tag.
func TestAllInOne_findsPushesNobodyReported(t *testing.T) {
	c := newChild(t)
	port := ports.Free(t)
	c.args = append(c.args, "--set", fmt.Sprintf("ports.registry=%d", port))
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	alone, err := registryd.New(t.Context(), registryd.Config{Dir: filepath.Join(c.dataDir, "registry"), Listener: listener})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- alone.Run(ctx) }()
	digest := images.Push(t, images.Clean(t, "unreported"), alone.Addr()+"/alone/app:v1")
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(c.dataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.start()
	_, client := c.verdicts()
	judged(t, client, []string{digest}, 3*time.Minute)
}

// TestAllInOne_acknowledgedPushIsJudged ends the all-in-one, mostly by SIGKILL, in the
// middle of bursts of pushes: by tag, by digest alone, and under one tag that all
// overwrite. Whatever the registry acknowledged is judged after the next start.
func TestAllInOne_acknowledgedPushIsJudged(t *testing.T) {
	c := newChild(t)
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGINT, syscall.SIGKILL, syscall.SIGKILL}
	var mu sync.Mutex
	var acknowledged []string
	for round, signal := range signals {
		c.start()
		registry, _ := c.verdicts()
		ctx, cancel := context.WithCancel(t.Context())
		var pushers sync.WaitGroup
		for pusher := range 4 {
			pushers.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					label := fmt.Sprintf("r%d-p%d-%d", round, pusher, i)
					img := images.Clean(t, label)
					digest, err := img.Digest()
					if err != nil {
						t.Error(err)
						return
					}
					reference := registry + "/kill/" + [...]string{"app:" + label, "moving:latest", "bare@" + digest.String()}[i%3]
					if pushOnce(ctx, img, reference) != nil {
						continue // not acknowledged
					}
					mu.Lock()
					acknowledged = append(acknowledged, digest.String())
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Second + rand.N(time.Second))
		c.end(signal)
		cancel()
		pushers.Wait()
	}
	if len(acknowledged) < 5*len(signals) {
		t.Fatalf("only %d pushes were acknowledged in %d rounds", len(acknowledged), len(signals))
	}
	c.start()
	_, client := c.verdicts()
	began := time.Now()
	judged(t, client, acknowledged, 5*time.Minute)
	t.Logf("%d acknowledged pushes in %d rounds, all judged %s after the last start", len(acknowledged), len(signals), time.Since(began).Round(time.Second))
}
