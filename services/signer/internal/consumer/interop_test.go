package consumer_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/registrytest"
)

// TestInterop_LargeDocuments has the real cosign verify what a key of the key store
// signed, and says how long that took and how much memory: the large document, and the
// report beside it.
func TestInterop_LargeDocuments(t *testing.T) {
	program := os.Getenv("SEAWORTHY_COSIGN")
	if program == "" {
		t.Skip("SEAWORTHY_COSIGN is not set")
	}
	r := registrytest.Start(t, true)
	for _, size := range []int64{1 << 20, 40 << 20, 64 << 20, 96 << 20, 128 << 20, largest} {
		t.Run(fmt.Sprintf("%dMiB", size>>20), func(t *testing.T) {
			image := r.PushImage("team/app")
			s := newSigner(t, image.Registry, image, size, ecdsaKey)
			if err := s.Handle(t.Context(), s.event, nil); err != nil {
				t.Fatal(err)
			}
			debug.FreeOSMemory()
			home := t.TempDir()
			keys, err := s.by.Trusted(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			text, err := cryptoutils.MarshalPublicKeyToPEM(keys.Keys[0].Key)
			if err != nil {
				t.Fatal(err)
			}
			public := filepath.Join(home, "cosign.pub")
			if err := os.WriteFile(public, text, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, predicateType := range []string{attest.PredicateSPDX, attest.PredicateCosignVuln} {
				cmd := exec.CommandContext(t.Context(), program, "verify-attestation", "--type", predicateType, "--allow-http-registry",
					"--key", public, "--insecure-ignore-tlog=true", image.String())
				cmd.Env = append(os.Environ(), "HOME="+home)
				var out, said bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &said
				begin := time.Now()
				err = cmd.Run()
				took := time.Since(begin)
				if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
					t.Logf("%s: cosign took %.1f s, %.1f s of the processor, %d MiB at most", predicateType, took.Seconds(),
						(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), usage.Maxrss>>10)
				}
				if err != nil || !bytes.Contains(out.Bytes(), []byte(`"payload"`)) {
					t.Errorf("cosign refuses %s: %v, %s", predicateType, err, said.Bytes()[:min(said.Len(), 2000)])
				}
			}
		})
	}
}
