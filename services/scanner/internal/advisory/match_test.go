package advisory_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func snapshot(t *testing.T, records ...string) *advisory.Snapshot {
	t.Helper()
	b := advisory.NewBuilder(1000)
	for _, r := range records {
		if err := b.Add("test", []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range b.Rejected() {
		t.Fatalf("rejected: %s", r.Message)
	}
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// record makes an OSV record of one package; extra members go in front.
func record(id, extra, ecosystem, name, affected string) string {
	if extra != "" {
		extra += ","
	}
	return `{"id":"` + id + `","modified":"2024-01-01T00:00:00Z",` + extra +
		`"affected":[{"package":{"ecosystem":"` + ecosystem + `","name":"` + name + `"},` + affected + `}]}`
}

func events(kind, list string) string {
	return `"ranges":[{"type":"` + kind + `","events":[` + list + `]}]`
}

func TestVersions(t *testing.T) {
	const two = `{"introduced":"1.0.0"},{"fixed":"1.2.0"},{"introduced":"2.0.0"},{"fixed":"2.3.0"}`
	for _, c := range []struct {
		ecosystem, affected, version string
		want                         bool
		fixed                        string
	}{
		{"npm", events("SEMVER", `{"introduced":"0"},{"fixed":"1.2.0"}`), "1.1.9", true, "1.2.0"},
		{"npm", events("SEMVER", `{"introduced":"0"},{"fixed":"1.2.0"}`), "1.2.0", false, ""},
		{"npm", events("SEMVER", `{"introduced":"0"},{"fixed":"1.2.0"}`), "1.2.0-rc.1", true, "1.2.0"},
		{"npm", events("SEMVER", `{"introduced":"0"},{"last_affected":"1.2.0"}`), "1.2.0", true, ""},
		{"npm", events("SEMVER", `{"introduced":"0"},{"last_affected":"1.2.0"}`), "1.2.1", false, ""},
		{"npm", events("SEMVER", two), "0.9.0", false, ""},
		{"npm", events("SEMVER", two), "1.1.0", true, "1.2.0"},
		{"npm", events("SEMVER", two), "1.9.0", false, ""},
		{"npm", events("SEMVER", two), "2.0.0", true, "2.3.0"},
		// Ranges of commits say nothing of a version; versions beside them do, and so do other ranges.
		{"PyPI", events("GIT", `{"introduced":"0"},{"fixed":"c0ffee"}`) + `,"versions":["1.0.0","1.0.1"]`, "1.0.1", true, ""},
		{"PyPI", events("GIT", `{"introduced":"0"}`) + `,"versions":["1.0.0","1.0.1"]`, "1.0.2", false, ""},
		{"PyPI", `"ranges":[{"type":"GIT","events":[{"introduced":"0"},{"fixed":"c0ffee"}]},{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2.0"}]}]`, "1.9", true, "2.0"},
		{"PyPI", `"ranges":[{"type":"GIT","events":[{"introduced":"0"}]},{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2.0"}]}]`, "2.0", false, ""},
		// Events need not be in order.
		{"npm", events("SEMVER", `{"fixed":"2.3.0"},{"introduced":"2.0.0"},{"fixed":"1.2.0"},{"introduced":"0"}`), "1.9.0", false, ""},
		{"npm", events("SEMVER", `{"introduced":"0"}`), "99.0.0", true, ""},
		{"npm", `"versions":["1.0.0","1.0.1"]`, "1.0.1", true, ""},
		{"npm", `"versions":["1.0.0","1.0.1"]`, "1.0.2", false, ""},
		{"Go", events("SEMVER", `{"introduced":"0"},{"fixed":"0.0.0-20220314234659-1baeb1ce4c0b"}`), "0.0.0-20210921155107-089bfa567519", true, "0.0.0-20220314234659-1baeb1ce4c0b"},
		{"Debian:12", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"3.0.11-1~deb12u2"}`), "3.0.11-1~deb12u1", true, "3.0.11-1~deb12u2"},
		{"Debian:12", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"1:1.0-1"}`), "2.0-1", true, "1:1.0-1"},
		{"Debian:12", events("ECOSYSTEM", `{"introduced":"0"}`), "2.0-1", true, ""},
		{"Alpine:v3.22", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"1.36.1-r30"}`), "1.36.1-r4", true, "1.36.1-r30"},
		{"PyPI", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"2.0"}`), "2.0rc1", true, "2.0"},
		{"Maven", events("ECOSYSTEM", `{"introduced":"2.0-beta9"},{"fixed":"2.3.1"}`), "2.0-rc1", true, "2.3.1"},
		{"npm", events("SEMVER", `{"introduced":"0"},{"limit":"1.2.0"}`), "1.1.0", true, ""},
		{"npm", events("SEMVER", `{"introduced":"0"},{"limit":"1.2.0"}`), "1.2.0", false, ""},
		{"npm", events("SEMVER", `{"introduced":"0"},{"limit":"1.2.0"},{"limit":"*"}`), "1.2.0", true, ""},
		// One limit is enough to be below of.
		{"npm", events("SEMVER", `{"introduced":"0"},{"limit":"1.2.0"},{"limit":"2.0.0"}`), "1.2.0", true, ""},
		// Versions are equal by the rules of the ecosystem, as they are in ranges.
		{"PyPI", `"versions":["1.0"]`, "1.0.0", true, ""},
		{"AlmaLinux:8", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"1:1.0-1.el8"}`), "2.0-1.el8", true, "1:1.0-1.el8"},
		{"AlmaLinux:8", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"1:1.0-1.el8"}`), "1:1.0-1.el8", false, ""},
		{"Unheard", `"versions":["1"]`, "1", true, ""},
	} {
		t.Run(c.ecosystem+" "+c.version, func(t *testing.T) {
			s := snapshot(t, record("X-1", "", c.ecosystem, "p", c.affected))
			findings, problems := s.Match([]core.Package{{Name: "p", Version: c.version, Ecosystem: c.ecosystem}})
			if problems != nil {
				t.Errorf("problems: %v", problems)
			}
			if (len(findings) == 1) != c.want {
				t.Fatalf("findings %v, want %v", findings, c.want)
			}
			if c.want && strings.Join(findings[0].FixedVersions, " ") != c.fixed {
				t.Errorf("fixed %v, want %s", findings[0].FixedVersions, c.fixed)
			}
		})
	}
}

func TestNames(t *testing.T) {
	all := events("ECOSYSTEM", `{"introduced":"0"}`)
	for _, c := range []struct {
		name, ecosystem, advisory string
		pkg                       core.Package
		want                      bool
	}{
		{"PyPI names are normalised", "PyPI", "Flask_Login", core.Package{Name: "flask.login", Version: "1", Ecosystem: "PyPI"}, true},
		{"Maven coordinates have no spaces", "Maven", "org.example : a", core.Package{Name: "org.example:a", Version: "1", Ecosystem: "Maven"}, true},
		{"npm names are not", "npm", "Lodash", core.Package{Name: "lodash", Version: "1.0.0", Ecosystem: "npm"}, false},
		{"source package", "Debian:12", "openssl", core.Package{Name: "libssl3", SourceName: "openssl", Version: "1", Ecosystem: "Debian:12"}, true},
		{"binary package", "Debian:12", "libssl3", core.Package{Name: "libssl3", SourceName: "openssl", Version: "1", Ecosystem: "Debian:12"}, false},
		{"another release", "Debian:11", "openssl", core.Package{Name: "openssl", Version: "1", Ecosystem: "Debian:12"}, false},
		{"every release", "Debian", "openssl", core.Package{Name: "openssl", Version: "1", Ecosystem: "Debian:12"}, true},
		{"no version", "Go", "a", core.Package{Name: "a", Ecosystem: "Go"}, false},
		{"no ecosystem", "Go", "a", core.Package{Name: "a", Version: "1.0.0"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			findings, _ := snapshot(t, record("X-1", "", c.ecosystem, c.advisory, all)).Match([]core.Package{c.pkg})
			if (len(findings) == 1) != c.want {
				t.Errorf("findings %v", findings)
			}
		})
	}
}

// TestStreams: the versions of two streams of a module cannot be compared with each
// other, nor those of a module with others.
func TestStreams(t *testing.T) {
	modular := events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"1:16.4-1.module_el8.5.0+1"}`)
	const version = "1:10.1-1.module_el8.2.0+391"
	for _, c := range []struct {
		summary, affected, version, purl string
		want                             bool
	}{
		{"Important: nodejs:16 security update", modular, version, "pkg:rpm/almalinux/nodejs@1?rpmmod=nodejs:16", true},
		{"Important: nodejs:16 security update", modular, version, "pkg:rpm/almalinux/nodejs@1?rpmmod=nodejs:10", false},
		{"Important: nodejs:16 security update", modular, version, "pkg:rpm/almalinux/nodejs@1?modularitylabel=nodejs:16:8060:ad0", true},
		// Nobody says which stream it is: it may be this one.
		{"Important: nodejs:16 security update", modular, version, "", true},
		{"nodejs security update", modular, version, "pkg:rpm/almalinux/nodejs@1?rpmmod=nodejs:10", true},
		{"virt:rhel and virt-devel:rhel security update", modular, version, "pkg:rpm/almalinux/nodejs@1?rpmmod=virt-devel:rhel", true},
		{"Important: nodejs:16 security update", modular, "1:10.1-1.el8", "", false},
		{"nodejs security update", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"1:16.4-1.el8"}`), version, "", false},
		{"nodejs security update", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"1:16.4-1.el8"}`), "16.3-1.el8", "", true},
		{"nodejs security update", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"1:16.4-1.el8"}`), "16.4-1.el8", "pkg:rpm/almalinux/nodejs@1?epoch=1", false},
	} {
		s := snapshot(t, record("ALSA-1", `"summary":"`+c.summary+`"`, "AlmaLinux:8", "nodejs", c.affected))
		findings, problems := s.Match([]core.Package{{Name: "nodejs", Version: c.version, Ecosystem: "AlmaLinux:8", PURL: c.purl}})
		if (len(findings) == 1) != c.want || problems != nil {
			t.Errorf("%s, %s, %s: %v, %v", c.summary, c.version, c.purl, findings, problems)
		}
	}
}

// TestGoItself: the versions of Go as binaries tell them.
func TestGoItself(t *testing.T) {
	s := snapshot(t, record("GO-1", "", "Go", "stdlib", events("SEMVER", `{"introduced":"0"},{"fixed":"1.20.5"},{"introduced":"1.21.0-0"},{"fixed":"1.21.0-rc.3"}`)))
	for version, want := range map[string]bool{
		"1.20.4": true, "1.20.5": false, "go1.20.4": true, "1.20": true, "1.20.5-vendor": false, "1.20.4-vendor": true,
		"1.20.12 (Red Hat 1.20.12-2.el9)": false, "1.21rc2": true, "1.21rc3": false, "1.21.0-rc.2": true, "1.21": false, "1.20.4 X:boringcrypto": true,
	} {
		findings, problems := s.Match([]core.Package{{Name: "stdlib", Version: version, Ecosystem: "Go"}})
		if (len(findings) == 1) != want || problems != nil {
			t.Errorf("%s: %v, %v", version, findings, problems)
		}
	}
}

// TestModules: another major version of a Go module is another module.
func TestModules(t *testing.T) {
	s := snapshot(t,
		record("GO-1", "", "Go", "example.org/m", events("SEMVER", `{"introduced":"0"},{"fixed":"1.2.0"}`)),
		record("GO-2", "", "Go", "example.org/m/v2", events("SEMVER", `{"introduced":"2.0.0"},{"fixed":"2.3.0"}`)))
	for _, c := range []struct{ name, version, want string }{
		{"example.org/m", "1.1.0", "GO-1"}, {"example.org/m", "2.1.0+incompatible", ""}, {"example.org/m/v2", "2.1.0", "GO-2"},
		{"example.org/m/v2", "2.3.0", ""}, {"example.org/m/v3", "3.0.0", ""}, {"example.org/m", "0.0.0-20200101000000-abcdefabcdef", "GO-1"},
	} {
		findings, _ := s.Match([]core.Package{{Name: c.name, Version: c.version, Ecosystem: "Go"}})
		got := ""
		for _, f := range findings {
			got += f.ID
		}
		if got != c.want {
			t.Errorf("%s %s: %q, want %q", c.name, c.version, got, c.want)
		}
	}
}

func TestMerge(t *testing.T) {
	all := events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"9"}`)
	other := events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"10"}`)
	vector := `"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}]`
	for _, c := range []struct {
		name    string
		eco     string
		records []string
		want    []string
	}{
		{"aliases, also by a third id", "PyPI", []string{
			record("PYSEC-1", `"aliases":["CVE-2020-1"]`, "PyPI", "p", all),
			record("GHSA-a", `"aliases":["CVE-2020-1"],"database_specific":{"severity":"MODERATE"}`, "PyPI", "p", other),
		}, []string{"CVE-2020-1 [CVE-2020-1 GHSA-a PYSEC-1] 4 0 [9 10]"}},
		{"no CVE", "PyPI", []string{record("GHSA-b", "", "PyPI", "p", all)}, []string{"GHSA-b [GHSA-b] 1 0 [9]"}},
		{"a vector beats words", "PyPI", []string{record("GHSA-b", vector+`,"database_specific":{"severity":"LOW"}`, "PyPI", "p", all)}, []string{"GHSA-b [GHSA-b] 5 7.5 [9]"}},
		{"one advisory of several vulnerabilities", "Debian:12", []string{
			record("DSA-1", `"upstream":["CVE-2020-1","CVE-2020-2"]`, "Debian:12", "p", all),
			record("DEBIAN-CVE-2020-1", `"upstream":["CVE-2020-1"]`, "Debian:12", "p", all),
		}, []string{"CVE-2020-1 [CVE-2020-1 DEBIAN-CVE-2020-1 DSA-1] 1 0 [9]", "CVE-2020-2 [CVE-2020-2 DSA-1] 1 0 [9]"}},
		{"the distribution decides", "Debian:12", []string{
			record("DEBIAN-CVE-2020-1", `"upstream":["CVE-2020-1"],`+vector, "Debian:12", "p", all+`,"ecosystem_specific":{"urgency":"unimportant"}`),
		}, []string{"CVE-2020-1 [CVE-2020-1 DEBIAN-CVE-2020-1] 2 7.5 [9]"}},
		{"the words of Ubuntu", "Ubuntu:22.04:LTS", []string{
			record("UBUNTU-CVE-2020-1", `"upstream":["CVE-2020-1"],"severity":[{"type":"Ubuntu","score":"low"},{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}]`, "Ubuntu:22.04:LTS", "p", all),
		}, []string{"CVE-2020-1 [CVE-2020-1 UBUNTU-CVE-2020-1] 3 7.5 [9]"}},
		{"the words of rpm distributions", "AlmaLinux:9", []string{
			record("ALSA-2020:1", `"summary":"Important: p security update"`, "AlmaLinux:9", "p", all),
		}, []string{"ALSA-2020:1 [ALSA-2020:1] 5 0 [9]"}},
		{"a newer vector beats version 2", "npm", []string{
			record("GHSA-v", `"severity":[{"type":"CVSS_V2","score":"AV:N/AC:L/Au:N/C:C/I:C/A:C"},{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}]`, "npm", "p", all),
		}, []string{"GHSA-v [GHSA-v] 5 7.5 [9]"}},
		{"version 2 alone", "npm", []string{
			record("GHSA-v", `"severity":[{"type":"CVSS_V2","score":"AV:N/AC:L/Au:N/C:C/I:C/A:C"}]`, "npm", "p", all),
		}, []string{"GHSA-v [GHSA-v] 6 10 [9]"}},
		{"version 4", "npm", []string{
			record("GHSA-v", `"severity":[{"type":"CVSS_V4","score":"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}]`, "npm", "p", all),
		}, []string{"GHSA-v [GHSA-v] 6 9.3 [9]"}},
		{"malware", "npm", []string{record("MAL-1", "", "npm", "p", all)}, []string{"MAL-1 [MAL-1] 6 0 [9]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			findings, _ := snapshot(t, c.records...).Match([]core.Package{{Name: "p", Version: "1", Ecosystem: c.eco}})
			var got []string
			for _, f := range findings {
				b, _ := json.Marshal([]any{f.Severity, f.CVSSScore})
				numbers := strings.ReplaceAll(strings.Trim(string(b), "[]"), ",", " ")
				got = append(got, f.ID+" ["+strings.Join(f.Aliases, " ")+"] "+numbers+" ["+strings.Join(f.FixedVersions, " ")+"]")
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUncomparable: a package that nobody can judge is a problem, not a pass.
func TestUncomparable(t *testing.T) {
	s := snapshot(t, record("X", "", "Debian:12", "p", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"9"}`)))
	_, problems := s.Match([]core.Package{{Name: "p", Version: "x:1", Ecosystem: "Debian:12"}})
	if len(problems) != 1 {
		t.Errorf("problems %v", problems)
	}
}

func TestBuilder(t *testing.T) {
	good := record("A", "", "npm", "p", events("SEMVER", `{"introduced":"0"}`))
	older := strings.Replace(strings.Replace(good, "2024", "2023", 1), `"p"`, `"old"`, 1)
	withdrawn := record("B", `"withdrawn":"2024-01-01T00:00:00Z"`, "npm", "p", events("SEMVER", `{"introduced":"0"}`))
	bad := []string{
		"", "{", "[]", `{"id":"C"}`, `{"id":"","modified":"2024-01-01T00:00:00Z"}`,
		`{"id":"C","modified":"2024-01-01T00:00:00Z","affected":[]}`,
		record("C", "", "npm", "p", events("GIT", `{"introduced":"0"}`)),
		record("C", "", "Debian:12", "p", events("ECOSYSTEM", `{"introduced":"0"},{"fixed":"x:y"}`)),
		`{"id":"C","modified":"2024-01-01T00:00:00Z","summary":"` + strings.Repeat("x", advisory.MaxRecord) + `"}`,
	}
	records := append(slices.Clone(bad), good, older, withdrawn)
	build := func(rs []string) (core.SnapshotInfo, []advisory.Rejected) {
		b := advisory.NewBuilder(10)
		for _, r := range rs {
			if err := b.Add("x", []byte(r)); err != nil {
				t.Fatal(err)
			}
		}
		s, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		encoded := s.Encode()
		loaded, err := advisory.Decode(encoded, s.Info().Digest)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.Info(), loaded.Info()); diff != "" {
			t.Errorf("loaded (-built +loaded):\n%s", diff)
		}
		if f, _ := loaded.Match([]core.Package{{Name: "p", Version: "1.0.0", Ecosystem: "npm"}}); len(f) != 1 {
			t.Errorf("findings of the loaded snapshot: %v", f)
		}
		for _, damage := range [][]byte{encoded[:len(encoded)-5], append(slices.Clone(encoded), 1), {}, []byte("x")} {
			if _, err := advisory.Decode(damage, s.Info().Digest); !errors.Is(err, advisory.ErrCorrupt) {
				t.Errorf("damaged: %v", err)
			}
		}
		if _, err := advisory.Decode(encoded, "sha256:0"); !errors.Is(err, advisory.ErrCorrupt) {
			t.Errorf("another digest: %v", err)
		}
		return s.Info(), b.Rejected()
	}
	info, rejected := build(records)
	if info.AdvisoryCount != 1 || info.RejectedCount != int64(len(bad)) || len(rejected) != len(bad) {
		t.Errorf("%+v, %v", info, rejected)
	}
	slices.Reverse(records)
	if again, _ := build(records); again.Digest != info.Digest {
		t.Error("the order of the records changes the digest")
	}
	b := advisory.NewBuilder(1)
	if err := b.Add("x", []byte(good)); err != nil {
		t.Fatal(err)
	}
	if err := b.Add("x", []byte(strings.Replace(good, `"A"`, `"A2"`, 1))); !errors.Is(err, advisory.ErrTooManyRecords) {
		t.Errorf("full: %v", err)
	}
	if _, err := advisory.NewBuilder(1).Build(); !errors.Is(err, advisory.ErrEmpty) {
		t.Errorf("empty: %v", err)
	}
}

// FuzzRecord: whatever a record is, it is refused or it can be matched, encoded
// and loaded.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(record("A", `"aliases":["CVE-1"]`, "npm", "p", events("SEMVER", `{"introduced":"0"},{"fixed":"1"}`))), "1.0.0")
	f.Add([]byte(record("A", `"upstream":["CVE-1","CVE-2"]`, "Debian:12", "p", events("ECOSYSTEM", `{"introduced":"0"},{"last_affected":"1:1~a-1"}`))), "1")
	f.Add([]byte(record("A", `"database_specific":{"kev":true,"epss":2,"severity":1}`, "PyPI", "p", `"versions":["1"]`)), "1")
	f.Fuzz(func(t *testing.T, content []byte, version string) {
		b := advisory.NewBuilder(10)
		if err := b.Add("fuzz", content); err != nil {
			t.Fatal(err)
		}
		s, err := b.Build()
		if err != nil {
			return
		}
		var packages []core.Package
		for _, e := range s.Info().Ecosystems {
			packages = append(packages, core.Package{Name: "p", Version: version, Ecosystem: e})
		}
		s.Match(packages)
		if _, err := advisory.Decode(s.Encode(), s.Info().Digest); err != nil {
			t.Fatal(err)
		}
	})
}
