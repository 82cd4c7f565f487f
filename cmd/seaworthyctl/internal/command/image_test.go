package command

import (
	"testing"

	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ got, want string }{
		{platformName(nil), ""},
		{platformName(&typev1.Platform{}), ""},
		{platformName(&typev1.Platform{Os: "linux", Architecture: "amd64"}), "linux/amd64"},
		{platformName(&typev1.Platform{Os: "linux", Architecture: "arm", Variant: "v7"}), "linux/arm/v7"},
		{imageName(&typev1.ImageRef{Digest: "sha256:1"}), "sha256:1"},
		{imageName(&typev1.ImageRef{Registry: "r.test", Repository: "a/b", Tag: "1", Digest: "sha256:1"}), "r.test/a/b:1"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
}
