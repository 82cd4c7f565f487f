package app_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/services/signer/app"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstoretest"
)

// TestSigner_StartReadsSigstoreFiles: whatever is wrong with the files that describe the
// Sigstore, the start ends and says which key and file, why, and where to get a good one.
func TestSigner_StartReadsSigstoreFiles(t *testing.T) {
	s := sigstoretest.Small(t)
	dir := t.TempDir()
	for key, file := range map[string]struct {
		good, advice string
		set          func(*app.Config, string)
	}{
		"sigstore.trusted_root": {
			s.TrustedRoot, "cosign trusted-root create", func(c *app.Config, path string) { c.Sigstore.TrustedRoot = path },
		},
		"sigstore.signing_config": {
			s.SigningConfig, "cosign signing-config create", func(c *app.Config, path string) { c.Sigstore.SigningConfig = path },
		},
	} {
		good, err := os.ReadFile(file.good)
		if err != nil {
			t.Fatal(err)
		}
		for way, tc := range map[string]struct {
			content []byte // nil: no file
			says    string
		}{
			"missing":         {nil, "no such file"},
			"empty":           {[]byte{}, ""},
			"garbled":         {[]byte("\x7fELF\x00\x01"), ""},
			"cut":             {good[:len(good)/2], ""},
			"of another kind": {[]byte("{}"), ""},
			"oversized":       {append(good, bytes.Repeat([]byte(" "), 2<<20)...), "more than"},
			"directory":       {nil, "directory"},
		} {
			t.Run(key+" "+way, func(t *testing.T) {
				path := filepath.Join(dir, strings.ReplaceAll(key+" "+way, " ", "-"))
				switch {
				case tc.content != nil:
					err = os.WriteFile(path, tc.content, 0o600)
				case way == "directory":
					err = os.Mkdir(path, 0o700)
				}
				if err != nil {
					t.Fatal(err)
				}
				f := newFleet(t)
				f.useSigstore(s, app.WitnessTimestamp)
				file.set(&f.cfg, path)
				err := f.tryStart()
				if err == nil {
					t.Fatal("it started")
				}
				for _, want := range []string{key, path, tc.says, file.advice} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q is not in: %v", want, err)
					}
				}
			})
		}
	}
}
