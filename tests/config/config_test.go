// Package config reads every configuration file that is shipped, strictly, and has
// each service validate its own.
package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seaworthy-dev/seaworthy/cmd/seaworthy/fleet"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	gateway "github.com/seaworthy-dev/seaworthy/services/gateway/app"
	notifier "github.com/seaworthy-dev/seaworthy/services/notifier/app"
	scanner "github.com/seaworthy-dev/seaworthy/services/scanner/app"
	signer "github.com/seaworthy-dev/seaworthy/services/signer/app"
	verifier "github.com/seaworthy-dev/seaworthy/services/verifier/app"
	"github.com/seaworthy-dev/seaworthy/tests/internal/repo"
)

// checks validate one shipped file each; a file without a check fails the test.
var checks = map[string]func(file string) error{
	"seaworthy.yaml":      checkAllInOne,
	"fleet/gateway.yaml":  checkService(gateway.Definition),
	"fleet/scanner.yaml":  checkService(scanner.Definition),
	"fleet/signer.yaml":   checkService(signer.Definition),
	"fleet/verifier.yaml": checkService(verifier.Definition),
	"fleet/notifier.yaml": checkService(notifier.Definition),
}

func TestShippedConfigs(t *testing.T) {
	dir := filepath.Join(repo.Root(t), "deploy", "config")
	inDirectoryWithSecrets(t)
	seen := 0
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		seen++
		check, ok := checks[filepath.ToSlash(name)]
		if !ok {
			t.Errorf("%s is shipped and nothing checks it", name)
			return nil
		}
		if err := check(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen != len(checks) {
		t.Errorf("%d files are shipped, %d are checked", seen, len(checks))
	}
}

func checkService[C any](d service.Definition[C]) func(string) error {
	environ := []string{}
	if d.NeedsDatabase {
		environ = append(environ, "SEAWORTHY_"+strings.ToUpper(d.Name)+"_DATABASE_DSN=postgres://app@127.0.0.1/postgres")
	}
	return func(file string) error {
		cfg, err := service.Load(d, file, environ, nil)
		if err != nil {
			return err
		}
		return service.Check(d, &cfg).Err()
	}
}

func checkAllInOne(file string) error {
	cfg := fleet.Default()
	if err := config.Load(&cfg, config.Options{File: file}); err != nil {
		return err
	}
	var p config.Problems
	cfg.Validate(&p)
	return p.Err()
}

// inDirectoryWithSecrets goes to a directory where the secrets that the files name
// exist, as run-fleet makes them.
func inDirectoryWithSecrets(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	secrets := filepath.Join(".seaworthy", "fleet")
	if err := os.MkdirAll(secrets, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"webhook.secret", "keystore.password"} {
		if err := os.WriteFile(filepath.Join(secrets, name), []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
