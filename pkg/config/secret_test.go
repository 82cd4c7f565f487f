package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestSecretResolve(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("A_SECRET", "from-env")
	t.Setenv("EMPTY_SECRET", "")
	good := map[string]struct {
		s    Secret
		want string
	}{
		"value": {Secret{Value: "v"}, "v"},
		"file":  {Secret{File: put("f", " from file \r\n\n")}, " from file "},
		"env":   {Secret{Env: "A_SECRET"}, "from-env"},
		"none":  {Secret{}, ""},
	}
	for name, tt := range good {
		t.Run(name, func(t *testing.T) {
			if got, err := tt.s.Resolve(); got != tt.want || err != nil {
				t.Errorf("Resolve = %q, %v; want %q", got, err, tt.want)
			}
		})
	}
	for name, s := range map[string]Secret{
		"missing file":   {File: filepath.Join(dir, "none")},
		"empty file":     {File: put("e", "\n")},
		"large file":     {File: put("l", strings.Repeat("x", MaxSecretFile+1))},
		"missing env":    {Env: "NO_SUCH_SECRET"},
		"empty env":      {Env: "EMPTY_SECRET"},
		"value and file": {Value: "v", File: put("g", "x")},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := s.Resolve(); err == nil {
				t.Errorf("Resolve = %q", got)
			}
		})
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	s := Secret{Value: "hunter2"}
	holder := struct {
		Password Secret
		Pointer  *Secret
	}{s, &s}
	var out bytes.Buffer
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		fmt.Fprintf(&out, format, s)
		fmt.Fprintf(&out, format, holder)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", s, "holder", holder)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "holder", holder)
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	if err := yaml.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Errorf("shown in:\n%s", out.String())
	}
	if got := (Secret{File: "/run/x"}).String(); got != "file:/run/x" {
		t.Errorf("String = %q", got)
	}
	if !(Secret{}).IsZero() || s.IsZero() {
		t.Error("IsZero is wrong")
	}
}
