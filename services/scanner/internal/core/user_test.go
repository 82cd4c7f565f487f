package core_test

import (
	"testing"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

func TestNonRoot(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/sh\n" +
		"app:x:1000:1000::/home/app:/bin/sh\n" +
		"  spaced:x:1001:1001::/:/bin/sh  \r\n" +
		"toor:x:0:0::/root:/bin/sh\n" +
		"zeros:x:000:0::/:/bin/sh\n" +
		"signed:x:+0:0::/:/bin/sh\n" +
		"empty:x::0::/:/bin/sh\n" +
		"short:x\n" +
		"hex:x:0x10:0::/:/bin/sh\n" +
		"blank:x: 1000:0::/:/bin/sh\n" +
		"negative:x:-1:0::/:/bin/sh\n" +
		"wraps:x:4294967296:0::/:/bin/sh\n" +
		"twice:x:1002:0::/:/bin/sh\ntwice:x:0:0::/:/bin/sh\n" +
		"2000:x:0:0::/:/bin/sh\n" +
		"0:x:1003:0::/:/bin/sh\n+0:x:1003:0::/:/bin/sh\n" +
		"last:x:1004:0::/:/bin/sh"
	for user, want := range map[string]bool{
		// Ids.
		"1000": true, "1000:0": true, "1000:wheel": true, "01000": true, "65532:65532": true, "2147483647": true,
		"": false, "00": false, "000:1000": false, "+0": false, "-0": false, "+1000": false, "-1": false,
		":": false, ":1000": false, ":root": false, "0:0": false, "0:1000": false, "1:2:3": false, "1000:": true,
		"2147483648": false, "4294967296": false, "18446744073709551616": false, "99999999999999999999999": false,
		" 0": false, "0 ": false, "\t0": false, "0\n": false, " 1000": false, "1000 ": false, "0x1": false, "0b1": false, "1_000": false, "1e3": false, "१": false, "\x00": false,
		// Names.
		"app": true, "app:root": true, "spaced": true, "last": true, "root": false, "root:1000": false, "toor": false, "zeros": false, "signed": false,
		"empty": false, "short": false, "hex": false, "blank": false, "negative": false, "wraps": false, "twice": false,
		"App": false, "app ": false, "missing": false, "x": false,
		// Names that are numbers.
		"2000": false, "0": false,
	} {
		if got := core.NonRoot(user, "linux", []byte(passwd)); got != want {
			t.Errorf("user %q: %t, want %t", user, got, want)
		}
	}
	for user, want := range map[string]bool{"1000": true, "app": false, "0": false, "": false} {
		if got := core.NonRoot(user, "linux", nil); got != want {
			t.Errorf("without passwd, user %q: %t, want %t", user, got, want)
		}
	}
	for user, want := range map[string]bool{"ContainerUser": true, "containeruser": true, "": false, "ContainerAdministrator": false, "1000": false} {
		if got := core.NonRoot(user, "windows", []byte(passwd)); got != want {
			t.Errorf("windows, user %q: %t, want %t", user, got, want)
		}
	}
}

func FuzzNonRoot(f *testing.F) {
	for _, s := range []string{"", "0", "+0", ":1000", "app:app", "1000:0"} {
		f.Add(s, []byte("app:x:1000:1000::/:\nroot:x:0:0"))
	}
	f.Fuzz(func(t *testing.T, user string, passwd []byte) {
		if core.NonRoot(user, "linux", passwd) && core.NonRoot(user+":", "linux", passwd) == false && len(user) > 0 && user[len(user)-1] != ':' {
			name := user
			for i := range user {
				if user[i] == ':' {
					name = ""
				}
			}
			if name != "" {
				t.Fatalf("%q is not root and %q is", user, user+":")
			}
		}
		// Whoever names root by a line of passwd alone is root.
		if core.NonRoot(user, "linux", append(append([]byte(nil), passwd...), ("\n"+user+":x:0:0::/:/bin/sh\n")...)) {
			t.Fatalf("%q has the id 0 and is not root", user)
		}
	})
}
