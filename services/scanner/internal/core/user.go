package core

import (
	"math"
	"strconv"
	"strings"
)

// NonRoot says whether it is certain that an image runs as another user than root, whose
// id is 0. user is that of the configuration, passwd the content of the image's own
// /etc/passwd; nil if it has none that can be read.
//
// It resolves the user as container runtimes do: a number is an id, anything else is a
// name in /etc/passwd, and nothing before the colon is id 0 (`:1000`). Where runtimes
// differ, or refuse to start, the user counts as root: signs before a number, ids beyond
// 31 bits, a number that is also the name of a user with id 0, several lines of one name,
// and a line whose id is missing or not a number, which some read as 0.
func NonRoot(user, os string, passwd []byte) bool {
	if os == "windows" {
		// Its users have names. Only this one is known to have no rights.
		return strings.EqualFold(user, "ContainerUser")
	}
	name, group, _ := strings.Cut(user, ":")
	if name == "" || strings.Contains(group, ":") {
		return false
	}
	// A number is an id even if it is also the name of a user.
	number := strings.Trim(strings.TrimLeft(name, "+-"), "0123456789") == ""
	if number && !isUserID(name) {
		return false
	}
	found := false
	for line := range strings.Lines(string(passwd)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if fields[0] != name {
			continue
		}
		if len(fields) < 3 || !isUserID(fields[2]) {
			return false
		}
		found = true
	}
	return found || number
}

// isUserID recognises an id that every runtime reads as a user who is not root.
func isUserID(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	id, err := strconv.ParseInt(s, 10, 64)
	return err == nil && id > 0 && id <= math.MaxInt32
}
