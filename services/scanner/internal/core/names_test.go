package core_test

import (
	"testing"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

func TestNormalizePyPI(t *testing.T) {
	for name, want := range map[string]string{
		"requests": "requests", "Flask_Login": "flask-login", "zope.interface": "zope-interface", "a-_.b": "a-b",
		"-a": "-a", "a.": "a-", "": "", "A": "a",
	} {
		if got := core.NormalizePyPI(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
