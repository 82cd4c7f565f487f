package extract_test

import (
	"archive/tar"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/extract"
	lt "github.com/seaworthy-dev/seaworthy/services/scanner/internal/layertest"
)

func setuid(name string) lt.Entry {
	return lt.Entry{Name: name, Content: "\x7fELF", Mode: 0o4755, Type: tar.TypeReg}
}

func TestFacts(t *testing.T) {
	elf := func(name string) lt.Entry { return lt.Executable(name, "\x7fELF") }
	for _, c := range []struct {
		name                     string
		layers                   [][]lt.Entry
		setuid, managers, shells []string
	}{
		{"busybox by symbolic links", [][]lt.Entry{{elf("bin/busybox"), lt.Symlink("bin/sh", "/bin/busybox"), lt.Symlink("bin/ash", "busybox"), elf("sbin/apk")}}, nil, []string{"apk"}, []string{"bin/ash", "bin/sh"}},
		{"busybox by hard links", [][]lt.Entry{{elf("bin/["), lt.HardLink("bin/sh", "bin/[")}}, nil, nil, []string{"bin/sh"}},
		{"linked directory", [][]lt.Entry{{lt.Symlink("bin", "usr/bin"), elf("usr/bin/dash"), lt.Symlink("bin/sh", "dash"), elf("usr/bin/apt-get"), elf("bin/dpkg")}}, nil, []string{"apt", "dpkg"}, []string{"usr/bin/dash", "usr/bin/sh"}},
		{"shell removed", [][]lt.Entry{{elf("bin/busybox"), lt.Symlink("bin/sh", "busybox")}, {lt.File("bin/.wh.busybox", "")}}, nil, nil, nil},
		{"no program", [][]lt.Entry{{lt.File("usr/share/bash-completion/completions/npm", "x"), lt.File("bin/sh", "x"), lt.Dir("opt/bash"), elf("opt/cargo")}}, nil, nil, nil},
		{"interpreters", [][]lt.Entry{{elf("usr/local/bin/pip3.12"), elf("usr/local/lib/node_modules/npm/bin/npm-cli.js"), lt.Symlink("usr/local/bin/npm", "../lib/node_modules/npm/bin/npm-cli.js")}}, nil, []string{"npm", "pip"}, nil},
		{"setuid", [][]lt.Entry{{setuid("usr/bin/su"), setuid("usr/bin/passwd"), lt.HardLink("usr/bin/su2", "usr/bin/su"), {Name: "srv/data", Content: "x", Mode: 0o6644, Type: tar.TypeReg}, {Name: "srv/dir/", Mode: 0o2755, Type: tar.TypeDir}}}, []string{"usr/bin/passwd", "usr/bin/su", "usr/bin/su2"}, nil, nil},
		{"setuid taken away", [][]lt.Entry{{setuid("usr/bin/su")}, {elf("usr/bin/su")}}, nil, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			inv := inventory(t, c.layers...)
			if diff := cmp.Diff([][]string{c.setuid, c.managers, c.shells}, [][]string{inv.SetuidFiles, inv.PackageManagers, inv.Shells}); diff != "" {
				t.Errorf("setuid, managers, shells (-want +got):\n%s", diff)
			}
			// A package manager of a distribution without its packages is told.
			want := slices.Contains(c.managers, "apk") || slices.Contains(c.managers, "apt")
			if (inv.Problems != nil) != want || len(inv.Problems) > 1 {
				t.Errorf("problems %q", inv.Problems)
			}
		})
	}
}

// privateKey makes one, in armour.
func privateKey(tb testing.TB) string {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// githubToken has the form of a token and its checksum, and was never issued.
func githubToken() string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	random := strings.Repeat("x1", 15)
	sum, check := crc32.ChecksumIEEE([]byte(random)), make([]byte, 6)
	for i := range check {
		check[5-i] = digits[sum%62]
		sum /= 62
	}
	return "ghp_" + random + string(check)
}

func TestSecrets(t *testing.T) {
	armour := privateKey(t)
	for _, c := range []struct {
		path, content, want string
	}{
		{"root/.ssh/id_rsa", armour, "private-key"},
		{"app/tls/server.key", armour, "private-key"},
		{"app/.env", "DATABASE_URL=postgres://app:hunter22@db/app\n", "url-password"},
		{"app/.env", "DATABASE_URL=postgres://app:${PASSWORD}@db/app\nREPO=https://git@example.org/x\n", ""},
		{"root/.npmrc", "//registry.npmjs.org/:_authToken=abcdef0123456789\n", "npmrc-auth"},
		{"root/.npmrc", "//registry.npmjs.org/:_authToken=${NPM_TOKEN}\n", ""},
		{"root/.docker/config.json", `{"auths":{"r.example":{"auth":"dXNlcjpwYXNzd29yZA=="}}}`, "docker-config-auth"},
		{"root/.netrc", "machine example.org login me password hunter22\n", "netrc-password"},
		{"root/.m2/settings.xml", "<server><password>hunter22</password></server>", "maven-password"},
		{"root/.m2/settings.xml", "<server><password>{encrypted=}</password></server>", ""},
		{"root/.kube/config", "users:\n- user:\n    client-key-data: LS0tLS1CRUdJTiBSU0E=\n", "kubeconfig"},
		{"root/.pgpass", "db:5432:app:app:hunter22\n", "pgpass-password"},
		{"app/vault.env.key", "process.some_identifier_that_is_long_enough\n", ""},
		{"root/.aws/credentials", "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLF\naws_secret_access_key = wJalrXUtnFEMIK7MDENGbPxRfiCYzzzzzzzzzKEY\n", "aws-access-key"},
		// Not at a place where credentials are, a certificate, of a package, an example.
		{"app/readme.txt", armour, ""},
		{"etc/ssl/certs/ca.pem", armour, ""},
		{"app/node_modules/x/test/server.key", armour, ""},
		{"app/.env.example", "DATABASE_URL=postgres://app:hunter22@db/app\n", ""},
		{"app/server.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""},
		{"app/binary.key", "\x00" + armour, ""},
		{"app/huge.key", armour + strings.Repeat("x", 300<<10), ""},
	} {
		t.Run(c.path, func(t *testing.T) {
			inv, ds := withLayers(t, []lt.Entry{lt.File(c.path, c.content)})
			var got []string
			for _, s := range inv.Secrets {
				got = append(got, s.Kind)
				if s.Location != c.path || s.LayerDigest != ds[0].Digest {
					t.Errorf("found at %+v", s)
				}
			}
			if strings.Join(got, " ") != c.want || inv.Problems != nil {
				t.Errorf("%v, want %q; problems %q", got, c.want, inv.Problems)
			}
		})
	}
	t.Run("removed", func(t *testing.T) {
		inv := inventory(t, []lt.Entry{lt.File("root/.ssh/id_rsa", armour)}, []lt.Entry{lt.File("root/.ssh/.wh.id_rsa", "")})
		// No container of this image has it, but whoever pulls the image does.
		if len(inv.Secrets) != 1 || !inv.Secrets[0].Deleted {
			t.Errorf("%v", inv.Secrets)
		}
	})
}

func TestSecretsAreAnOption(t *testing.T) {
	s := lt.Store{}
	d := s.Add(lt.Gzip(t, lt.Tar(t, lt.File("root/.ssh/id_rsa", privateKey(t)))))
	x, err := extract.NewWith(s, extract.DefaultLimits(), 1, extract.Options{SkipSecrets: true})
	if err != nil {
		t.Fatal(err)
	}
	inv, err := x.Extract(t.Context(), imageref.Ref{}, []core.Descriptor{d})
	if err != nil || inv.Secrets != nil || x.Secrets("TOKEN", githubToken()) != nil {
		t.Errorf("%v, %v", inv.Secrets, err)
	}
	if got := extractor(t, s, nil).Secrets("TOKEN", githubToken()); !slices.Equal(got, []string{"github-token"}) {
		t.Errorf("environment: %v", got)
	}
	if got := extractor(t, s, nil).Secrets("PATH", "/usr/bin:/bin"); got != nil {
		t.Errorf("environment: %v", got)
	}
}

// TestSearchIsBounded: an image of nothing but files that could hold credentials is
// not searched to its end, and says so.
func TestSearchIsBounded(t *testing.T) {
	var entries []lt.Entry
	for i := range 17 {
		entries = append(entries, lt.File("keys/"+strings.Repeat("k", i+1)+".key", strings.Repeat("x\n", 1<<17)))
	}
	inv := inventory(t, entries)
	if len(inv.Problems) != 1 || !strings.Contains(inv.Problems[0], "not searched for credentials") {
		t.Errorf("problems %q", inv.Problems)
	}
}

// TestPasswd: the users are those of the merged image.
func TestPasswd(t *testing.T) {
	const root, app = "app:x:0:0::/:/bin/sh\n", "app:x:1000:1000::/:/bin/sh\n"
	for _, c := range []struct {
		name   string
		layers [][]lt.Entry
		want   string
	}{
		{"file", [][]lt.Entry{{lt.File("etc/passwd", app)}}, app},
		{"upper layer", [][]lt.Entry{{lt.File("etc/passwd", app)}, {lt.File("./etc/passwd", root)}}, root},
		{"removed", [][]lt.Entry{{lt.File("etc/passwd", app)}, {lt.File("etc/.wh.passwd", "")}}, ""},
		{"directory removed", [][]lt.Entry{{lt.File("etc/passwd", app)}, {lt.File("etc/.wh..wh..opq", "")}}, ""},
		{"linked away", [][]lt.Entry{{lt.File("etc/passwd", app), lt.File("srv/users", root)}, {lt.Symlink("etc/passwd", "../srv/users")}}, ""},
		{"hard link", [][]lt.Entry{{lt.File("srv/users", root), lt.HardLink("etc/passwd", "srv/users")}}, root},
		{"directory in its place", [][]lt.Entry{{lt.File("etc/passwd", app)}, {lt.Dir("etc/passwd")}}, ""},
		{"too large", [][]lt.Entry{{lt.File("etc/passwd", strings.Repeat(app, 256<<10/len(app)+1))}}, ""},
		{"none", [][]lt.Entry{{lt.File("x", "")}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			inv := inventory(t, c.layers...)
			if string(inv.Passwd) != c.want {
				t.Errorf("passwd %.100q", inv.Passwd)
			}
			if got, want := core.NonRoot("app", "linux", inv.Passwd), c.want == app; got != want {
				t.Errorf("app is not root: %t", got)
			}
		})
	}
}
