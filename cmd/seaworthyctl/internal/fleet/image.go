package fleet

import "strings"

// namesRegistry says whether the reference begins with a registry's host, by
// the rule that imageref.Parse goes by.
func namesRegistry(s string) bool {
	first, _, ok := strings.Cut(s, "/")
	return ok && (strings.ContainsAny(first, ".:[") || first == "localhost")
}
