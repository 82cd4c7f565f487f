package oneshot_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/oneshot"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/sbom"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var linux = core.Platform{OS: "linux", Architecture: "amd64"}

// advisories are those of the demo.
func advisories(tb testing.TB) core.Matcher {
	tb.Helper()
	s, rejected, err := oneshot.Advisories([]string{"../../../../deploy/advisories"}, 1000)
	if err != nil || len(rejected) > 0 {
		tb.Fatal(err, rejected)
	}
	return s
}

func options(tb testing.TB, target string) oneshot.Options {
	tb.Helper()
	return oneshot.Options{Target: target, Default: linux, Matcher: advisories(tb), Limits: extract.DefaultLimits(), Layers: 2, Version: "test"}
}

func scan(t *testing.T, o oneshot.Options) (*core.Report, string) {
	t.Helper()
	r, n, err := oneshot.Scan(t.Context(), o)
	if err != nil {
		t.Fatalf("%s: %v", o.Target, err)
	}
	return r, n
}

func image(tb testing.TB, p core.Platform, layers ...[]lt.Entry) v1.Image {
	tb.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range layers {
		content := lt.Tar(tb, l...)
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			tb.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			tb.Fatal(err)
		}
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		tb.Fatal(err)
	}
	cfg.OS, cfg.Architecture = p.OS, p.Architecture
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		tb.Fatal(err)
	}
	return img
}

const debian = "ID=debian\nVERSION_ID=\"12\"\n"

func dpkg(names ...string) lt.Entry {
	var b strings.Builder
	for _, n := range names {
		fields := strings.Split(n, " ")
		fmt.Fprintf(&b, "Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: %s\n", fields[0], fields[1])
		if len(fields) > 2 {
			fmt.Fprintf(&b, "Source: %s\n", strings.Join(fields[2:], " "))
		}
		b.WriteString("\n")
	}
	return lt.File("var/lib/dpkg/status", b.String())
}

func npm(path, name, version string) lt.Entry {
	return lt.File(path+"/package.json", `{"name":"`+name+`","version":"`+version+`","license":"MIT"}`)
}

// TestScan_DiffID: a configuration with another image's diff_ids would run that other image
// wherever its layers are unpacked already.
func TestScan_DiffID(t *testing.T) {
	img := testImage(t)
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.RootFS.DiffIDs[0] = cfg.RootFS.DiffIDs[len(cfg.RootFS.DiffIDs)-1]
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeLayout(t, dir, img)
	_, _, err = oneshot.Scan(t.Context(), options(t, "oci:"+dir))
	if f := core.AsFault(err); f == nil || f.Reason != core.ReasonLayerCorrupt || f.Temporary {
		t.Errorf("error %v", err)
	}
}

func testImage(tb testing.TB) v1.Image {
	tb.Helper()
	return image(tb, linux,
		[]lt.Entry{lt.File("etc/os-release", debian), dpkg("libc6 2.36-9+deb12u1 glibc", "libcurl4 7.88.1-10+deb12u3 curl")},
		[]lt.Entry{npm("app/node_modules/lodash", "lodash", "4.17.20")},
	)
}

// TestPlaces: one image is the same in a registry, in a layout, in an archive of a
// layout and in docker's archive, but for what these call it.
func TestPlaces(t *testing.T) {
	img := testImage(t)
	dir := t.TempDir()
	server := httptest.NewServer(ggcr.New(ggcr.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	ref, err := name.NewTag(host + "/team/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	writeLayout(t, filepath.Join(dir, "app"), img)
	tarOf(t, filepath.Join(dir, "app"), filepath.Join(dir, "app.tar"))
	if err := tarball.WriteToFile(filepath.Join(dir, "docker.tar"), ref, img); err != nil {
		t.Fatal(err)
	}

	want, called := scan(t, options(t, host+"/team/app:1"))
	if called != host+"/team/app" || len(want.Packages) != 3 || len(want.Findings) == 0 || len(want.Problems) != 0 {
		t.Fatalf("%s: %d packages, %d findings, problems %q", called, len(want.Packages), len(want.Findings), want.Problems)
	}
	for target, name := range map[string]string{
		"oci:" + filepath.Join(dir, "app"):                   "app",
		"oci:" + filepath.Join(dir, "app") + ":1":            "app",
		"tar:" + filepath.Join(dir, "app.tar"):               "app",
		"tar:" + filepath.Join(dir, "docker.tar"):            host + "/team/app",
		"docker-archive:" + filepath.Join(dir, "docker.tar"): host + "/team/app",
	} {
		progress := &oneshot.Progress{}
		o := options(t, target)
		o.Progress = progress
		got, called := scan(t, o)
		if strings.Contains(target, "docker.tar") {
			config, err := img.ConfigName()
			if err != nil || got.ImageDigest != config.String() {
				t.Errorf("%s is %s, want the digest of its configuration %s, %v", target, got.ImageDigest, config, err)
			}
			got.ImageDigest = want.ImageDigest
		}
		if diff := cmp.Diff(want, got); diff != "" || called != name {
			t.Errorf("%s is called %s (-registry +it):\n%s", target, called, diff)
		}
		if done, layers, read, bytes := progress.Counts(); done != 2 || layers != 2 || read != bytes || read == 0 {
			t.Errorf("%s: %d of %d layers, %d of %d bytes", target, done, layers, read, bytes)
		}
	}
}

func writeLayout(t *testing.T, dir string, images ...v1.Image) layout.Path {
	t.Helper()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for i, img := range images {
		cfg, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.AppendImage(img, layout.WithPlatform(v1.Platform{OS: cfg.OS, Architecture: cfg.Architecture}),
			layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": fmt.Sprint(i + 1)})); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func tarOf(t *testing.T, dir, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPlatforms(t *testing.T) {
	arm := core.Platform{OS: "linux", Architecture: "arm64"}
	amdImage := image(t, linux, []lt.Entry{npm("a", "amd", "1")})
	armImage := image(t, arm, []lt.Entry{npm("a", "arm", "1")})
	dir := filepath.Join(t.TempDir(), "many")
	writeLayout(t, dir, armImage, amdImage)

	// The same as an index in a registry.
	server := httptest.NewServer(ggcr.New(ggcr.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	ref, err := name.NewTag(host + "/many:1")
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, a := range []mutate.IndexAddendum{
		{Add: armImage, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		{Add: amdImage, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
	} {
		index = mutate.AppendManifests(index, a)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"oci:" + dir, host + "/many:1"} {
		for _, c := range []struct {
			asked core.Platform
			want  string
		}{{core.Platform{}, "amd"}, {arm, "arm"}, {linux, "amd"}} {
			o := options(t, target)
			o.Platform = c.asked
			if r, _ := scan(t, o); r.Packages[0].Name != c.want {
				t.Errorf("%s for %v is %s, want %s", target, c.asked, r.Packages[0].Name, c.want)
			}
		}
		o := options(t, target)
		o.Platform = core.Platform{OS: "windows", Architecture: "amd64"}
		if _, _, err := oneshot.Scan(t.Context(), o); err == nil || !strings.Contains(err.Error(), "linux/amd64, linux/arm64") {
			t.Errorf("%s for windows: %v", target, err)
		}
	}
	// One image of another platform than asked for.
	single := filepath.Join(t.TempDir(), "single")
	writeLayout(t, single, amdImage)
	o := options(t, "oci:"+single)
	o.Platform = arm
	if _, _, err := oneshot.Scan(t.Context(), o); core.AsFault(err) == nil {
		t.Errorf("amd64 for arm64: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	registry := ggcr.New(ggcr.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		registry.ServeHTTP(w, r)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	ref, err := name.NewTag(host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, testImage(t), remote.WithAuth(&authn.Basic{Username: "ann", Password: "secret"})); err != nil {
		t.Fatal(err)
	}
	o := options(t, host+"/app:1")
	if _, _, err := oneshot.Scan(t.Context(), o); core.AsFault(err) == nil || core.AsFault(err).Reason != core.ReasonRegistryUnauthorized {
		t.Errorf("without credentials: %v", err)
	}
	home := t.TempDir()
	t.Setenv("DOCKER_CONFIG", home)
	config := fmt.Sprintf(`{"auths":{%q:{"username":"ann","password":"secret"}}}`, host)
	if err := os.WriteFile(filepath.Join(home, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Keychain = authn.DefaultKeychain
	if r, _ := scan(t, o); len(r.Packages) != 3 {
		t.Errorf("%d packages", len(r.Packages))
	}
}

// TestRefuses: what is no image, or not a whole one, is an error that says so.
func TestRefuses(t *testing.T) {
	good := func() string {
		dir := filepath.Join(t.TempDir(), "app")
		writeLayout(t, dir, testImage(t))
		return dir
	}
	layer := func(dir string) string {
		p, err := layout.FromPath(dir)
		if err != nil {
			t.Fatal(err)
		}
		index, err := p.ImageIndex()
		if err != nil {
			t.Fatal(err)
		}
		m, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		img, err := p.Image(m.Manifests[0].Digest)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, "blobs", "sha256", manifest.Layers[0].Digest.Hex)
	}
	missing, changed := good(), good()
	if err := os.Remove(layer(missing)); err != nil {
		t.Fatal(err)
	}
	blob := layer(changed)
	content, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	// The gzip header's time: still the same tar, but not the same bytes.
	content[4] ^= 1
	if err := os.Chmod(blob, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, content, 0o600); err != nil {
		t.Fatal(err)
	}
	climbing := t.TempDir()
	write(t, filepath.Join(climbing, "index.json"), `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:../../../etc/passwd"}]}`)
	linked := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(linked, "index.json")); err != nil {
		t.Fatal(err)
	}
	deepest := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: testImage(t)})
	for range 10 {
		deepest = mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: deepest})
	}
	deep := t.TempDir()
	if _, err := layout.Write(deep, deepest); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	write(t, text, strings.Repeat("no archive ", 1000))
	for name, c := range map[string]struct{ target, want string }{
		"blob missing":      {"oci:" + missing, "is not there"},
		"blob changed":      {"oci:" + changed, "does not have its digest"},
		"digest climbs":     {"oci:" + climbing, "malformed digest"},
		"link leads out":    {"oci:" + linked, "escapes"},
		"ten indexes deep":  {"oci:" + deep, "no platform image"},
		"no layout":         {"oci:" + t.TempDir(), "is not an OCI layout"},
		"no such tag":       {"oci:" + good() + ":9", `no image "9"`},
		"no archive":        {"tar:" + text, "not an uncompressed tar archive"},
		"no docker archive": {"docker-archive:" + text, "not an uncompressed tar archive"},
		"no SBOM":           {"sbom:" + text, "neither SPDX"},
		"no reference":      {"UPPER CASE", "image reference"},
	} {
		t.Run(name, func(t *testing.T) {
			if r, _, err := oneshot.Scan(t.Context(), options(t, c.target)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v, want %q", r, err, c.want)
			}
		})
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestThreeWays: a scan of an image, its stored inventory matched again, and its
// bills of materials read back say the same, for any image.
func TestThreeWays(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 20 {
		var layers [][]lt.Entry
		for range 1 + rng.IntN(3) {
			layers = append(layers, randomLayer(rng))
		}
		dir := filepath.Join(t.TempDir(), "random")
		writeLayout(t, dir, image(t, linux, layers...))
		o := options(t, "oci:"+dir)
		fresh, called := scan(t, o)
		want := wire.Report(fresh)

		stored, _, err := wire.Canonical(want)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := wire.Parse(stored)
		if err != nil {
			t.Fatal(err)
		}
		again := wire.Domain(parsed)
		again.InventoryProblems = fresh.InventoryProblems
		again.Match(o.Matcher)
		if content, _, err := wire.Canonical(wire.Report(again)); err != nil || !bytes.Equal(content, stored) {
			t.Fatalf("image %d matched again: %v\n%s\n%s", i, err, stored, content)
		}
		scanned := time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)
		for format, document := range map[string]func() ([]byte, error){
			"spdx":      func() ([]byte, error) { return sbom.SPDX(called, want, scanned) },
			"cyclonedx": func() ([]byte, error) { return sbom.CycloneDX(called, want, scanned) },
		} {
			content, err := document()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, format+".json")
			write(t, file, string(content))
			read, name := scan(t, options(t, "sbom:"+file))
			if diff := cmp.Diff(fresh.Findings, read.Findings); diff != "" || name != called {
				t.Fatalf("image %d as %s of %s (-image +document):\n%s", i, format, name, diff)
			}
			if diff := cmp.Diff(fresh.Problems, read.Problems); diff != "" || read.ImageDigest != fresh.ImageDigest || read.Snapshot.Digest != fresh.Snapshot.Digest {
				t.Fatalf("image %d as %s: %s, problems (-image +document):\n%s", i, format, read.ImageDigest, diff)
			}
		}
	}
}

func randomLayer(rng *rand.Rand) []lt.Entry {
	pick := func(from ...string) string { return from[rng.IntN(len(from))] }
	var out []lt.Entry
	if rng.IntN(2) == 0 {
		out = append(out, lt.File("etc/os-release", pick(debian, "ID=alpine\nVERSION_ID=3.18.2\n", "ID=ubuntu\nVERSION_ID=22.04\n", "ID=own\n")))
	}
	if rng.IntN(2) == 0 {
		out = append(out, dpkg("libc6 2.36-9+deb12u1 glibc", pick("libcurl4 7.88.1-10+deb12u3 curl", "libexpat1 2.5.0-1 expat (2.5.0-0)", "tar 1:1.34+dfsg-1.2")))
	}
	if rng.IntN(2) == 0 {
		out = append(out, lt.File("lib/apk/db/installed",
			"P:libcrypto3\nV:"+pick("3.1.0-r4", "3.1.4-r6", "9")+"\nA:x86_64\nL:Apache-2.0\no:openssl\n\nP:busybox\nV:1.36.0-r9\nA:x86_64\nL:GPL-2.0-only\n\n"))
	}
	for range rng.IntN(4) {
		out = append(out, npm("srv/"+pick("a", "b", "c d", "ü"), pick("lodash", "@babel/core", "JSONStream", "minimist"), pick("4.17.20", "1.0.0", "0.0.8", "no version")))
	}
	if rng.IntN(3) == 0 {
		out = append(out, lt.File("usr/lib/python3/site-packages/"+pick("Jinja2", "django")+"-1.dist-info/METADATA",
			"Metadata-Version: 2.1\nName: "+pick("Jinja2", "Django", "zope.interface")+"\nVersion: "+pick("2.10", "3.2.0")+"\nLicense: "+pick("BSD-3-Clause", "a licence of its own")+"\n"))
	}
	if rng.IntN(3) == 0 {
		out = append(out, lt.File("srv/broken.jar", "no jar"), lt.File("srv/.wh."+pick("a", "b"), ""))
	}
	return out
}
