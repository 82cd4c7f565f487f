package fleet_test

import (
	"testing"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/cmd/seaworthyctl/internal/fleet"
)

func TestFleet_Image(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ own, in, want string }{
		{"registry.test:5000", "alpine", "registry.test:5000/alpine:latest"},
		{"registry.test:5000", "shop/ledger:1", "registry.test:5000/shop/ledger:1"},
		{"registry.test:5000", "docker.io/library/alpine", "docker.io/library/alpine:latest"},
		{"registry.test:5000", "other.test/alpine", "other.test/alpine:latest"},
		{"registry.test:5000", "localhost/alpine", "localhost/alpine:latest"},
		{"registry.test:5000", "127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1"},
		{"", "alpine", "docker.io/library/alpine:latest"},
		{"registry.test:5000", "", ""},
		{"registry.test:5000", "UPPER", ""},
	} {
		f := &fleet.Fleet{Context: fleetcontext.New()}
		f.Context.Registry.Host = tc.own
		ref, err := f.Image(tc.in)
		if tc.want == "" {
			if err == nil {
				t.Errorf("Image(%q) = %v, want an error", tc.in, ref)
			}
			continue
		}
		if err != nil || ref.String() != tc.want {
			t.Errorf("Image(%q) with %q = %v, %v; want %s", tc.in, tc.own, ref, err, tc.want)
		}
	}
}
