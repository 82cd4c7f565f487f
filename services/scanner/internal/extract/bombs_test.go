package extract_test

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/testkit/race"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

// generated is a layer that is written while it is read, so that the test itself
// holds nothing of it.
type generated func(tw *tar.Writer) error

func (g generated) Layer(context.Context, imageref.Ref, core.Descriptor) (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() {
		bw := bufio.NewWriterSize(w, 256<<10)
		tw := tar.NewWriter(bw)
		err := g(tw)
		if err == nil {
			err = errors.Join(tw.Close(), bw.Flush())
		}
		w.CloseWithError(err)
	}()
	return r, nil
}

// big writes a file of a head and a text again and again.
func big(tw *tar.Writer, name string, mode, size int64, head, text string) error {
	if err := tw.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: size, Format: tar.FormatPAX}); err != nil {
		return err
	}
	if _, err := io.WriteString(tw, head); err != nil {
		return err
	}
	block := []byte(strings.Repeat(text, 1+64<<10/len(text)))
	for left := size - int64(len(head)); left > 0; {
		n, err := tw.Write(block[:min(left, int64(len(block)))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// bombs are layers that take far more memory than is allowed, if they can.
var bombs = map[string]struct {
	layer generated
	// reason is of the fault, problem a part of what makes the report incomplete.
	reason, problem string
}{
	"a million tiny files": {layer: func(tw *tar.Writer) error {
		for i := range 1_000_000 {
			if err := tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("data/%d/%d", i/1000, i), Mode: 0o644}); err != nil {
				return err
			}
		}
		return nil
	}},
	"more files than allowed": {reason: core.ReasonLimitExceeded, layer: func(tw *tar.Writer) error {
		for i := range 2_000_001 {
			if err := tw.WriteHeader(&tar.Header{Name: fmt.Sprint(i), Mode: 0o644}); err != nil {
				return err
			}
		}
		return nil
	}},
	"a package.json of 5 GB": {problem: "larger than", layer: func(tw *tar.Writer) error {
		return big(tw, "app/package.json", 0o644, 5<<30, `{"name":"`, "a")
	}},
	"a package.json of 900 MB": {problem: "larger than", layer: func(tw *tar.Writer) error {
		return big(tw, "app/package.json", 0o644, 900<<20, `{"name":"`, "a")
	}},
	"a program of 900 MB": {layer: func(tw *tar.Writer) error {
		return big(tw, "usr/bin/app", 0o755, 900<<20, "\x7fELF", "a")
	}},
	"a dpkg status with a field of 900 MB": {reason: core.ReasonLimitExceeded, layer: func(tw *tar.Writer) error {
		return big(tw, "var/lib/dpkg/status", 0o644, 900<<20, "Package: a\nStatus: install ok installed\nDescription: ", "a")
	}},
	"a dpkg status with millions of packages": {reason: core.ReasonLimitExceeded, layer: func(tw *tar.Writer) error {
		return big(tw, "var/lib/dpkg/status", 0o644, 900<<20, "", "Package: aaaaaa\nStatus: install ok installed\nVersion: 1234567\n\n")
	}},
	"an apk database with one package": {reason: core.ReasonLimitExceeded, layer: func(tw *tar.Writer) error {
		return big(tw, "lib/apk/db/installed", 0o644, 900<<20, "P:a\nV:1\n", "F:aaaa\nR:aaaaaa\n")
	}},
	"an rpm database of 900 MB": {problem: "malformed rpm database", layer: func(tw *tar.Writer) error {
		return big(tw, "var/lib/rpm/Packages.db", 0o644, 900<<20, "RpmP\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00", "Slot\x01\x00\x00\x00\x01\x00\x00\x00\xff\xff\xff\xff")
	}},
	"a jar of 900 MB": {layer: func(tw *tar.Writer) error {
		return big(tw, "opt/app.jar", 0o644, 900<<20, "PK\x03\x04", "a")
	}},
}

const (
	bombVariable = "SEAWORTHY_TEST_BOMB"
	// bombMemory is what a child may have taken of memory at its worst, in KiB. Most of
	// it are the paths of millions of files.
	bombMemory = 768 << 10
)

// TestBombs sets each off in a child of its own and looks at the memory it took.
func TestBombs(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector takes several times the memory")
	}
	if name := os.Getenv(bombVariable); name != "" {
		setOff(t, name)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range bombs {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := exec.CommandContext(t.Context(), self, "-test.run=^TestBombs$", "-test.v")
			c.Env = append(os.Environ(), bombVariable+"="+name, "TMPDIR="+dir)
			out, err := c.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%.3000s", err, out)
			}
			usage, ok := c.ProcessState.SysUsage().(*syscall.Rusage)
			if !ok || usage.Maxrss > bombMemory {
				t.Errorf("it took %d KiB", usage.Maxrss)
			}
			t.Logf("peak memory %d MiB, %s of CPU", usage.Maxrss>>10, c.ProcessState.UserTime())
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func setOff(t *testing.T, name string) {
	t.Helper()
	b := bombs[name]
	x, err := extract.New(b.layer, extract.DefaultLimits(), 2)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := x.Extract(t.Context(), imageref.Ref{}, []core.Descriptor{{MediaType: lt.MediaTypeGzip, Digest: "sha256:0"}})
	reason := ""
	if f := core.AsFault(err); f != nil {
		reason = f.Reason
	}
	if reason != b.reason || err != nil && reason == "" {
		t.Errorf("error %v, want %q", err, b.reason)
	}
	if (b.problem == "") != (inv.Problems == nil) || !strings.Contains(strings.Join(inv.Problems, "\n"), b.problem) {
		t.Errorf("problems %q, want %q", inv.Problems, b.problem)
	}
}

// TestSpilled: a file over the limit of memory gives what it gives in memory, and
// leaves nothing behind.
func TestSpilled(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	s := lt.Store{}
	d := s.Add(lt.Gzip(t, lt.Tar(t,
		lt.File("etc/os-release", "ID=rocky\nVERSION_ID=9\n"), lt.File("var/lib/rpm/Packages", rpmDatabase(t, "libuuid/Packages")),
		lt.File("opt/a.jar", jar(t, map[string]string{"META-INF/maven/x/pom.properties": "groupId=g\nartifactId=a\nversion=1\n"})),
		npm("app/node_modules/a", "a", "1.0.0"),
		lt.Executable("usr/bin/app", moduleFile(t, scalibr, "extractor/filesystem/language/rust/cargoauditable/testdata/uses_serde_json/uses_serde_json")),
	)))
	var want []string
	for _, size := range []int64{32 << 20, 1} {
		inv, err := extractor(t, s, func(l *extract.Limits) { l.MaxInMemory = config.Bytes(size) }).Extract(t.Context(), imageref.Ref{}, []core.Descriptor{d})
		if err != nil || inv.Problems != nil {
			t.Fatalf("%v, %v", inv.Problems, err)
		}
		if got := lines(inv); want == nil {
			want = got
		} else if !slices.Equal(want, got) {
			t.Errorf("spilled %v, in memory %v", got, want)
		}
	}
	if len(want) < 10 {
		t.Errorf("the test image shows too little: %v", want)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	t.Setenv("TMPDIR", filepath.Join(dir, "missing"))
	_, err := extractor(t, s, func(l *extract.Limits) { l.MaxInMemory = 1 }).Extract(t.Context(), imageref.Ref{}, []core.Descriptor{d})
	if err == nil || core.AsFault(err) != nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("without a directory: %v", err)
	}
}

// TestDiffID: a layer must be what the configuration says, also when it is known.
func TestDiffID(t *testing.T) {
	s := lt.Store{}
	content := lt.Tar(t, npm("a", "a", "1.0.0"))
	d := s.Add(lt.Gzip(t, content))
	cache := &memory{content: map[string][]byte{}}
	for _, c := range []struct {
		name   string
		diffID string
		good   bool
	}{
		{"another", lt.Digest([]byte("x")), false},
		{"not known", lt.Digest(content), true},
		{"known", lt.Digest(content), true},
		{"known and another", lt.Digest([]byte("x")), false},
	} {
		x := extractor(t, s, nil)
		x.UseCache(cache)
		d.DiffID = c.diffID
		_, err := x.Extract(t.Context(), imageref.Ref{}, []core.Descriptor{d})
		if f := core.AsFault(err); c.good != (err == nil) || err != nil && (f == nil || f.Reason != core.ReasonLayerCorrupt) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

var errSlow = errors.New("the registry stalls")

// stalls gives a few bytes and then the error of a client whose patience ended.
type stalls struct{ io.Reader }

func (stalls) Close() error { return nil }

func (stalls) Layer(context.Context, imageref.Ref, core.Descriptor) (io.ReadCloser, error) {
	fault := core.NewTemporary(core.ReasonRegistryUnavailable, "the registry does not answer").WithCause(errSlow)
	return stalls{io.MultiReader(strings.NewReader("\x1f\x8b\x08\x00"), failing{fault})}, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestBrokenRegistry: what the registry does wrong is not blamed on the image.
func TestBrokenRegistry(t *testing.T) {
	missing := core.Descriptor{MediaType: lt.MediaTypeGzip, Digest: lt.Digest(nil)}
	for name, c := range map[string]struct {
		opener    extract.Opener
		reason    string
		temporary bool
	}{"stalls": {stalls{}, core.ReasonRegistryUnavailable, true}, "a blob is missing": {lt.Store{}, core.ReasonImageNotFound, false}} {
		_, err := extractor(t, c.opener, nil).Extract(t.Context(), imageref.Ref{}, []core.Descriptor{missing})
		if f := core.AsFault(err); f == nil || f.Reason != c.reason || f.Temporary != c.temporary {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForeignLayers: what is no tar archive is named, and the rest is read.
func TestForeignLayers(t *testing.T) {
	s := lt.Store{}
	good := s.Add(lt.Gzip(t, lt.Tar(t, npm("a", "a", "1.0.0"))))
	for _, mediaType := range []string{
		"application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "application/vnd.oci.image.layer.v1.tar+encrypted",
		"application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+brotli", "",
	} {
		bad := s.Add([]byte("never read"))
		bad.MediaType = mediaType
		inv, err := extractor(t, s, nil).Extract(t.Context(), imageref.Ref{}, []core.Descriptor{bad, good})
		if err != nil || len(inv.Packages) != 1 || len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0], "unsupported media type") {
			t.Errorf("%s: %v, %q, %v", mediaType, lines(inv), inv.Problems, err)
		}
	}
}

// TestOddEntries: entries that no builder makes do no harm.
func TestOddEntries(t *testing.T) {
	device := func(name string, kind byte) lt.Entry { return lt.Entry{Name: name, Type: kind, Mode: 0o666} }
	deep := strings.Repeat("d/", 127)
	inv := inventory(t, []lt.Entry{
		npm("a", "a", "1.0.0"),
		device("dev/null", tar.TypeChar), device("dev/sda", tar.TypeBlock), device("run/fifo", tar.TypeFifo),
		// A device in the place of a file hides it, a file in the place of a device shows.
		npm("b", "b", "1.0.0"), device("b/package.json", tar.TypeChar),
		device("c/package.json", tar.TypeFifo), npm("c", "c", "1.0.0"),
		npm("/absolute", "absolute", "1.0.0"), npm("../../../climbs", "climbs", "1.0.0"), npm("x/../y/./dots", "dots", "1.0.0"),
		lt.Symlink("etc/passwd", "/etc/passwd"), lt.Symlink("out", "../../../../.."), npm("out/outside", "outside", "1.0.0"),
		lt.HardLink("hard/package.json", "../../a/package.json"),
		npm(strings.TrimSuffix(deep, "/"), "deep", "1.0.0"),
		npm("twice", "twice", "1.0.0"), npm("twice", "twice", "2.0.0"), lt.Dir("twice"),
	})
	var got []string
	for _, p := range inv.Packages {
		got = append(got, p.Name+" "+p.Version+" "+strings.TrimPrefix(p.Location, deep))
	}
	want := []string{
		"a 1.0.0 a/package.json", "a 1.0.0 hard/package.json", "absolute 1.0.0 absolute/package.json", "c 1.0.0 c/package.json",
		"climbs 1.0.0 climbs/package.json", "deep 1.0.0 package.json", "dots 1.0.0 y/dots/package.json", "outside 1.0.0 outside/package.json",
		"twice 2.0.0 twice/package.json",
	}
	if !slices.Equal(got, want) || inv.Problems != nil {
		t.Errorf("%v\nwant %v\nproblems %q", got, want, inv.Problems)
	}
}

// TestWheelBomb: metadata that decompresses to anything is not read.
func TestWheelBomb(t *testing.T) {
	wheel := jar(t, map[string]string{"EGG-INFO/PKG-INFO": "Name: a\nVersion: 1\n\n" + strings.Repeat("a", 17<<20)})
	inv := inventory(t, []lt.Entry{lt.File("opt/a.egg", wheel)})
	if inv.Packages != nil || len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0], "over a limit") {
		t.Errorf("%v, %q", lines(inv), inv.Problems)
	}
}

// TestDeepJar: archives nested fifty deep are given up on, not followed.
func TestDeepJar(t *testing.T) {
	inner := jar(t, map[string]string{"META-INF/maven/x/pom.properties": "groupId=g\nartifactId=a\nversion=1\n"})
	for range 50 {
		inner = jar(t, map[string]string{"inner.jar": inner})
	}
	inv := inventory(t, []lt.Entry{lt.File("opt/deep.jar", inner)})
	if len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0], "nested deeper") {
		t.Errorf("%v, %q", lines(inv), inv.Problems)
	}
}

// TestJarBomb: a small archive that decompresses to more than is allowed.
func TestJarBomb(t *testing.T) {
	inner := jar(t, map[string]string{"zeros": strings.Repeat("\x00", 100<<20)})
	for _, outer := range []map[string]string{
		{"a.jar": inner + strings.Repeat("\x00", 300<<20)},
		{"META-INF/MANIFEST.MF": strings.Repeat("a: b\n", 4<<20)},
	} {
		inv := inventory(t, []lt.Entry{lt.File("opt/bomb.jar", jar(t, outer))})
		if len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0], "more than is allowed") {
			t.Errorf("%v, %q", lines(inv), inv.Problems)
		}
	}
}
