// Package own_test scans what we ship as we scan what others ship.
package own_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/seaworthy-dev/seaworthy/tests/internal/repo"
)

// programs have all that we link: the all-in-one has the five services, built in one workspace.
var programs = []string{"seaworthy", "seaworthyctl"}

// TestOwnPrograms: no program of ours has a vulnerability that an upgrade fixes.
func TestOwnPrograms(t *testing.T) {
	data := os.Getenv("SEAWORTHY_TESTDATA")
	if data == "" {
		data = filepath.Join(repo.Root(t), "../shared/data")
	}
	advisories := filepath.Join(data, "osv", "Go")
	if _, err := os.Stat(advisories); err != nil {
		t.Skipf("needs the advisories about Go: %v", err)
	}
	platform := v1.Platform{OS: "linux", Architecture: "amd64"}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: platform.OS, Architecture: platform.Architecture})
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.AppendLayers(img, programLayer(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img, layout.WithPlatform(platform)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(repo.Root(t), "bin", "seaworthy"), "scan", "-q", "-o", "json",
		"--platform", "linux/amd64", "--advisories", advisories, "oci:"+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 3) {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	var report struct {
		Packages []json.RawMessage
		Findings []struct {
			ID, PackageName, PackageVersion, Location string
			FixedVersions                             []string
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Packages) < 100 {
		t.Fatalf("only %d packages found in our programs", len(report.Packages))
	}
	for _, f := range report.Findings {
		if len(f.FixedVersions) > 0 {
			t.Errorf("%s has %s: upgrade %s from %s to %v", f.Location, f.ID, f.PackageName, f.PackageVersion, f.FixedVersions)
		}
	}
}

func programLayer(t *testing.T) v1.Layer {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "layer.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := tar.NewWriter(file)
	for _, name := range programs {
		program, err := os.Open(filepath.Join(repo.Root(t), "bin", name))
		if err != nil {
			t.Fatal(err)
		}
		info, err := program.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.WriteHeader(&tar.Header{Name: "usr/bin/" + name, Mode: 0o755, Size: info.Size(), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, program); err != nil {
			t.Fatal(err)
		}
		program.Close()
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return layer
}
