package extract

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func zipOf(tb testing.TB, files ...string) []byte {
	tb.Helper()
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		w, err := zw.Create(files[i])
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			tb.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// jarPackages are the packages of an archive, as `name version`, and its clues.
func jarPackages(tb testing.TB, name string, content []byte) []string {
	tb.Helper()
	b := archiveBudget{bytes: maxOpened, entries: maxArchiveEntries}
	pkgs, err := b.jar(context.Background(), name, bytes.NewReader(content), int64(len(content)), 1)
	if err != nil {
		tb.Fatal(err)
	}
	var out []string
	for _, p := range pkgs {
		s := p.Name + " " + p.Version
		if c, ok := p.Metadata.(*jarClues); ok {
			s += fmt.Sprint(" ", c.artifacts, c.packages, c.claims)
		}
		out = append(out, s)
	}
	return out
}

func TestJavaArchive(t *testing.T) {
	const dir = "META-INF/maven/org.apache.logging.log4j/log4j-core/"
	manifest := func(lines ...string) string {
		return "Manifest-Version: 1.0\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\nName: x\r\nImplementation-Version: 9\r\n"
	}
	for _, c := range []struct {
		name, file string
		files      []string
		want       []string
	}{
		{"Maven", "x.jar", []string{dir + "pom.properties", "groupId=g\nartifactId=a\nversion=1\n"}, []string{"g:a 1"}},
		{"pom.xml only", "log4j-core-2.14.1.jar", []string{dir + "pom.xml", `<?xml version="1.0" encoding="ISO-8859-1"?><project><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>2.14.1</version></project>`}, []string{"org.apache.logging.log4j:log4j-core 2.14.1"}},
		{"group and version of the parent", "x.jar", []string{dir + "pom.xml", `<project><parent><groupId>g</groupId><artifactId>p</artifactId><version>3</version></parent><artifactId>a</artifactId><dependencies><dependency><groupId>no</groupId><artifactId>no</artifactId><version>no</version></dependency></dependencies></project>`}, []string{"g:a 3"}},
		{"properties", "x.jar", []string{dir + "pom.xml", `<project><groupId>g</groupId><artifactId>a</artifactId><version>${major}.${minor}</version><properties><major>1</major><minor>${m}</minor><m>2</m></properties></project>`}, []string{"g:a 1.2"}},
		{"a property of itself", "x.jar", []string{dir + "pom.xml", `<project><groupId>g</groupId><artifactId>a</artifactId><version>${v}</version><properties><v>${v}${v}</v></properties></project>`}, []string{"g:a "}},
		{"unresolved, version of the file", "log4j-core-2.14.1.jar", []string{dir + "pom.properties", "groupId=org.apache.logging.log4j\nartifactId=log4j-core\nversion=${project.version}\n"}, []string{"org.apache.logging.log4j:log4j-core 2.14.1"}},
		{"unresolved, no version", "log4j-core.jar", []string{dir + "pom.properties", "groupId=org.apache.logging.log4j\nartifactId=log4j-core\nversion=@version@\n"}, []string{"org.apache.logging.log4j:log4j-core "}},
		{"Gradle", "spring-beans-5.3.17.jar", []string{"META-INF/MANIFEST.MF", manifest("Implementation-Title: spring-beans", "Automatic-Module-Name: spring.beans", "Implementation-Version: 5.3.17"), "org/springframework/beans/A.class", ""},
			[]string{"org.springframework:spring-beans 5.3.17 [spring-beans spring.beans] [org.springframework.beans] [spring.beans]"}},
		{"Spring Security", "spring-security-core-5.6.2.jar", []string{"META-INF/MANIFEST.MF", manifest("Automatic-Module-Name: spring.security.core")},
			[]string{"org.springframework.security:spring-security-core 5.6.2 [spring-security-core spring.security.core security-core] [] [spring.security.core]"}},
		{"Ant", "tomcat-embed-core-9.0.50.jar", []string{"META-INF/MANIFEST.MF", manifest("Bundle-SymbolicName: org.apache.tomcat-embed-core;a=b", "Implementation-Title: Apache Tom", " cat")},
			[]string{"org.apache.tomcat.embed:tomcat-embed-core 9.0.50 [tomcat-embed-core apache-tomcat org.apache.tomcat-embed-core org-apache-tomcat-embed-core apache-tomcat-embed-core] [] [org.apache.tomcat-embed-core]"}},
		{"vendor", "hibernate-core-5.4.0.Final.jar", []string{"META-INF/MANIFEST.MF", manifest("Implementation-Vendor-Id: org.hibernate")},
			[]string{"org.hibernate:hibernate-core 5.4.0.Final [hibernate-core] [] [org.hibernate]"}},
		{"two places for the version", "log4j-1.2-api-2.14.1.jar", []string{"META-INF/MANIFEST.MF", manifest("Implementation-Version: 2.14.1")},
			[]string{"log4j-1.2-api:log4j-1.2-api 2.14.1 [log4j-1.2-api] [] []"}},
		{"versions that contradict", "a-1.0.jar", []string{"META-INF/MANIFEST.MF", manifest("Implementation-Version: 2.0")},
			[]string{"a:a 1.0 [a] [] []", "a:a 2.0 [a] [] []"}},
		{"a pom that is about something else", "log4j-core-2.14.1.jar", []string{"META-INF/maven/g/a/pom.properties", "groupId=g\nartifactId=a\nversion=1\n", "org/apache/logging/log4j/core/A.class", ""},
			[]string{"g:a 1", "org.apache.logging:log4j-core 2.14.1 [log4j-core] [org.apache.logging] []"}},
		{"no version anywhere", "log4j-core.jar", []string{"org/apache/logging/A.class", ""}, []string{"org.apache.logging:log4j-core  [log4j-core] [org.apache.logging] []"}},
		{"within an application", "app.war", []string{"WEB-INF/lib/a.jar", string(zipOf(t, dir+"pom.properties", "groupId=g\nartifactId=a\nversion=1\n"))}, []string{"g:a 1"}},
		{"nothing of Java", "x.jar", []string{"readme.txt", ""}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := jarPackages(t, c.file, zipOf(t, c.files...))
			if c.name == "a pom that is about something else" {
				for i := range got {
					got[i] = strings.Replace(got[i], "org.apache.logging.log4j:", "org.apache.logging:", 1)
					got[i] = strings.Replace(got[i], "[org.apache.logging.log4j]", "[org.apache.logging]", 1)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// counted counts what is read.
type counted struct {
	*bytes.Reader
	read int64
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(p, off)
	c.read += int64(n)
	return n, err
}

// overlapping repeats the only entry of an archive in its directory: all entries have one
// piece of compressed data.
func overlapping(t *testing.T, archive []byte, n int) []byte {
	t.Helper()
	end := len(archive) - 22
	at := int(binary.LittleEndian.Uint32(archive[end+16:]))
	out := bytes.Clone(archive[:at])
	for range n {
		out = append(out, archive[at:end]...)
	}
	size := len(out) - at
	out = append(out, archive[end:]...)
	tail := out[len(out)-22:]
	binary.LittleEndian.PutUint16(tail[8:], uint16(n))
	binary.LittleEndian.PutUint16(tail[10:], uint16(n))
	binary.LittleEndian.PutUint32(tail[12:], uint32(size))
	return out
}

// TestOverlappingEntries: entries that share their data cost what they cost one by one, also
// those that decompress to nothing.
func TestOverlappingEntries(t *testing.T) {
	const budget, entries = 4 << 20, 20_000
	pom := zipOf(t, "META-INF/maven/g/a/pom.xml", "<project>"+strings.Repeat("<a/>", 50_000))
	var empty bytes.Buffer
	zw := zip.NewWriter(&empty)
	// Blocks of deflate that are stored and empty, then the last one.
	blocks := append(bytes.Repeat([]byte{0, 0, 0, 0xff, 0xff}, 20_000), 1, 0, 0, 0xff, 0xff)
	w, err := zw.CreateRaw(&zip.FileHeader{Name: "a/pom.properties", Method: zip.Deflate, CompressedSize64: uint64(len(blocks))})
	if err == nil {
		_, err = w.Write(blocks)
	}
	if err := errors.Join(err, zw.Close()); err != nil {
		t.Fatal(err)
	}
	for name, one := range map[string][]byte{"pom.xml": pom, "empty blocks": empty.Bytes(), "archive": zipOf(t, "a.jar", string(pom))} {
		content := overlapping(t, one, entries)
		r := &counted{Reader: bytes.NewReader(content)}
		b := archiveBudget{bytes: budget, entries: maxArchiveEntries}
		_, err := b.jar(context.Background(), "x.jar", r, int64(len(content)), 1)
		if !errors.Is(err, errOver) {
			t.Errorf("%s: %v", name, err)
		}
		if most := int64(2*budget + 2*len(content)); r.read > most {
			t.Errorf("%s: read %d bytes, at most %d expected", name, r.read, most)
		}
	}
}

// TestHostilePom: a pom.xml cannot take more than its size.
func TestHostilePom(t *testing.T) {
	var p pom
	if err := p.project([]byte("<project>" + strings.Repeat("<a>", maxPomDepth+1))); !errors.Is(err, errOver) {
		t.Errorf("deep: %v", err)
	}
	var laughs strings.Builder
	for i := range 100 {
		fmt.Fprintf(&laughs, "<p%d>%s</p%d>", i, strings.Repeat(fmt.Sprintf("${p%d}", i+1), 10), i)
	}
	p = pom{}
	if err := p.project([]byte("<project><version>${p0}</version><properties>" + laughs.String() + "</properties></project>")); err != nil || p.coordinates().version != "" {
		t.Errorf("%v, version %q", err, p.coordinates().version)
	}
	p = pom{}
	if err := p.project([]byte("<project><properties>" + strings.Repeat("<a/>", 10) + manyElements(2*maxPomValues) + "</properties></project>")); err != nil || len(p.values) > maxPomValues {
		t.Errorf("%v, %d properties", err, len(p.values))
	}
}

func manyElements(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "<p%d>1</p%d>", i, i)
	}
	return b.String()
}

func FuzzPom(f *testing.F) {
	f.Add([]byte("groupId=g\nversion=${project.version}"), []byte("<project><version>${a}</version><properties><a>${a}1</a></properties></project>"))
	f.Fuzz(func(t *testing.T, properties, project []byte) {
		var p pom
		p.properties(properties)
		_ = p.project(project)
		if c := p.coordinates(); strings.ContainsAny(c.version+c.group+c.artifact, "${}@ ") {
			t.Errorf("%+v", c)
		}
	})
}

// FuzzManifest: clues fit into a package URL.
func FuzzManifest(f *testing.F) {
	f.Add("spring-beans-5.3.17.jar", []byte("Implementation-Title: spring-beans\r\nBundle-SymbolicName: a.b;x=y\r\n z\r\n\r\n"))
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		j := jarFile{name: name}
		j.readManifest(text)
		for _, p := range j.identify() {
			c, _ := p.Metadata.(*jarClues)
			for _, s := range append(append([]string{}, c.artifacts...), c.claims...) {
				if !isIdentifier(s) {
					t.Errorf("clue %q", s)
				}
			}
			if len(c.artifacts) > maxArtifacts || len(c.claims) > maxClaims {
				t.Errorf("clues %+v", c)
			}
		}
	})
}

// TestBoundedTexts: what would take a parser quadratic time or a deep stack is refused.
func TestBoundedTexts(t *testing.T) {
	for name, c := range map[string]struct {
		check func([]byte) error
		text  string
		over  bool
	}{
		"long line":   {checkLines, strings.Repeat("a", maxLine+1), true},
		"line":        {checkLines, strings.Repeat(strings.Repeat("a", maxLine)+"\n", 3), false},
		"dotted key":  {checkTOML, "a" + strings.Repeat(".a", maxDots+1) + "=1", true},
		"table":       {checkTOML, "[a" + strings.Repeat(".a", maxDots+1) + "]", true},
		"inline":      {checkTOML, "b={a" + strings.Repeat(".a", maxDots+1) + "=1}", true},
		"nested":      {checkTOML, "a=" + strings.Repeat("[", maxNesting+1), true},
		"an ordinary": {checkTOML, strings.Repeat("[[package]]\nname = \"a.b\"\nversion = \"1.0.0\"\n", 1000), false},
	} {
		if err := c.check([]byte(c.text)); errors.Is(err, errOver) != c.over {
			t.Errorf("%s: %v", name, err)
		}
	}
}
