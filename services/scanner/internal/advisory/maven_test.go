package advisory_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/package-url/packageurl-go"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// archive is a Java archive whose coordinates no pom names.
func archive(name, version, artifacts, packages, claims string) core.Package {
	var q packageurl.Qualifiers
	for _, v := range [][2]string{{core.QualifierArtifacts, artifacts}, {core.QualifierPackages, packages}, {core.QualifierClaims, claims}} {
		if v[1] != "" {
			q = append(q, packageurl.Qualifier{Key: v[0], Value: v[1]})
		}
	}
	group, artifact, _ := strings.Cut(name, ":")
	return core.Package{
		Name: name, Version: version, Ecosystem: "Maven", Location: "app/" + artifact + ".jar",
		PURL: packageurl.NewPackageURL(packageurl.TypeMaven, group, artifact, version, q, "").ToString(),
	}
}

// TestJavaArchives: the names that advisories speak of decide what an archive may be.
func TestJavaArchives(t *testing.T) {
	all := events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"2.0"}`)
	s := snapshot(t,
		record("V-beans", "", "Maven", "org.springframework:spring-beans", all),
		record("V-core-a", "", "Maven", "org.a:core", all), record("V-core-b", "", "Maven", "org.b:core", all),
		record("V-io", "", "Maven", "commons-io:commons-io", all), record("V-h2", "", "Maven", "com.h2database:h2", all),
		record("V-unit", "", "Maven", "net.sourceforge.htmlunit:html-unit", all),
	)
	for _, c := range []struct {
		name    string
		p       core.Package
		want    string
		problem string
	}{
		{"only one group has it", archive("x:spring-beans", "1.0", "spring-beans", "", ""), "V-beans", ""},
		{"its classes are there", archive("x:spring-beans", "1.0", "spring-beans", "org.springframework.beans", ""), "V-beans", ""},
		{"the manifest lies", archive("com.acme:spring-beans", "1.0", "spring-beans", "org.springframework.beans", "com.acme.beans"), "V-beans", ""},
		{"the manifest lies, no classes", archive("com.acme:spring-beans", "1.0", "spring-beans", "", "com.acme.beans"), "V-beans", ""},
		{"the title lies", archive("com.acme:acme", "1.0", "acme,spring-beans", "org.springframework.beans", ""), "V-beans", ""},
		{"fixed", archive("x:spring-beans", "2.0", "spring-beans", "", ""), "", ""},
		{"several groups, by the classes", archive("x:core", "1.0", "core", "org.b.core", ""), "V-core-b", ""},
		{"several groups, by the manifest", archive("x:core", "1.0", "core", "", "org.b.core"), "V-core-b", "may be org.a:core"},
		{"several groups, nothing tells", archive("x:core", "1.0", "core", "", ""), "", "may be org.a:core"},
		{"somebody else's", archive("x:core", "1.0", "core", "com.acme.core", ""), "", ""},
		{"an archive of everything", archive("x:core", "1.0", "core", core.AnyPackage, ""), "V-core-a V-core-b", ""},
		{"a group without dots", archive("x:commons-io", "1.0", "commons-io", "org.apache.commons", ""), "V-io", ""},
		{"a package after the artifact", archive("x:h2", "1.0", "h2", "org.h2.jdbc", ""), "V-h2", ""},
		{"classes elsewhere, a rare name", archive("x:html-unit", "1.0", "html-unit", "com.gargoylesoftware", ""), "", "may be net.sourceforge.htmlunit:html-unit"},
		{"no version", archive("x:spring-beans", "", "spring-beans", "", ""), "", "the version of x:spring-beans is not known"},
		{"no version, no advisories", archive("x:y", "", "y", "", ""), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			findings, problems := s.Match([]core.Package{c.p})
			var got []string
			for _, f := range findings {
				got = append(got, f.ID)
			}
			slices.Sort(got)
			if strings.Join(got, " ") != c.want {
				t.Errorf("findings %v, want %q", got, c.want)
			}
			if all := strings.Join(problems, "\n"); (all != "") != (c.problem != "") || !strings.Contains(all, c.problem) {
				t.Errorf("problems %q, want %q", problems, c.problem)
			}
		})
	}
}

// TestJavaArchivesAreFoundLater: an archive in a stored inventory meets advisories that come
// after it.
func TestJavaArchivesAreFoundLater(t *testing.T) {
	old := snapshot(t, record("V-1", "", "Maven", "org.a:core", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"2.0"}`)))
	now := snapshot(t, record("V-1", "", "Maven", "org.a:core", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"2.0"}`)),
		record("V-2", "", "Maven", "org.springframework:spring-beans", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"2.0"}`)))
	index := advisory.Index([]core.Package{archive("x:y", "1.0", "y,spring-beans", "", "")})
	keys, err := advisory.Changed(old, now)
	if err != nil {
		t.Fatal(err)
	}
	differs := advisory.Differs(old, now)
	if !slices.ContainsFunc(index, func(p core.IndexedPackage) bool {
		return slices.Contains(keys, core.PackageKey{Ecosystem: p.Base, Name: p.Name}) && differs(p.PackageVersion)
	}) {
		t.Errorf("index %+v is not among %v, or does not differ", index, keys)
	}
}

// TestVersionForms: versions that osv-scalibr alone compares otherwise than their ecosystems.
func TestVersionForms(t *testing.T) {
	for _, c := range []struct {
		ecosystem, introduced, fixed, version string
		want                                  bool
	}{
		{"Packagist", "8.5.0", "8.5.1", "8.5", true},
		{"Packagist", "8.5", "8.5.1", "8.5.0.0", true},
		{"Packagist", "8.5.0", "8.5.1", "v8.5.0-beta1", false},
		{"Packagist", "0", "8.5", "8.5.0-RC1", true},
		{"Packagist", "0", "8.5.0-b2", "8.5-beta.1", true},
		{"Packagist", "0", "8.5.0", "8.5-p1", false},
		{"Maven", "0", "1.1.0-Beta5", "1.1.0.Beta4", true},
		{"Maven", "1.1.0-beta4", "1.2", "1.1.0.Beta4", true},
		{"Maven", "1.1.0-alpha1", "1.1.0.Final", "1.1.0.Beta4", true},
		{"Maven", "0", "1.1.0.Beta4", "1.1.0", false},
		{"RubyGems", "4.0.0.beta.2", "4.0.0", "4.0.0-beta.1", true},
		{"RubyGems", "0", "4.0.0-beta.1", "4.0.0.beta.9", true},
		{"npm", "1.0.0", "1.2.1", "=v1.2.0", true},
	} {
		s := snapshot(t, record("V", "", c.ecosystem, "a:b", events("ECOSYSTEM", `{"introduced":"`+c.introduced+`"},{"fixed":"`+c.fixed+`"}`)))
		findings, problems := s.Match([]core.Package{{Name: "a:b", Version: c.version, Ecosystem: c.ecosystem}})
		if (len(findings) > 0) != c.want || problems != nil {
			t.Errorf("%s %s in [%s, %s): %v, %q", c.ecosystem, c.version, c.introduced, c.fixed, len(findings) > 0, problems)
		}
	}
}

// TestNoVersions: what the ecosystem takes for no version is not judged, and that is said where
// there are advisories.
func TestNoVersions(t *testing.T) {
	for ecosystem, versions := range map[string][]string{
		"Packagist": {"dev-master", "1.x-dev", "1.0.0-foo", ""},
		"Maven":     {"${project.version}", "@version@", "unspecified", ""},
		"RubyGems":  {"a", "1..0", "1.0_x"},
		"PyPI":      {"unknown", "1.0-foo", ""},
		"npm":       {"latest", "git+https://example.org/a", ""},
		"NuGet":     {"$(Version)"},
		"crates.io": {"*"},
		"Go":        {"devel", ""},
	} {
		s := snapshot(t, record("V", "", ecosystem, "a:b", events("ECOSYSTEM", `{"introduced":"1.0.0"},{"fixed":"2.0.0"}`)))
		for _, v := range versions {
			if findings, problems := s.Match([]core.Package{{Name: "a:b", Version: v, Ecosystem: ecosystem}}); findings != nil || len(problems) != 1 {
				t.Errorf("%s %q: %v, %q", ecosystem, v, findings, problems)
			}
			if _, problems := s.Match([]core.Package{{Name: "no:advisories", Version: v, Ecosystem: ecosystem}}); problems != nil {
				t.Errorf("%s %q without advisories: %q", ecosystem, v, problems)
			}
		}
	}
}
