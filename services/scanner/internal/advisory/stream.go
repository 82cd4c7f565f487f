package advisory

import (
	"regexp"
	"slices"
)

// namedStream is how the summaries of rpm distributions name a module and its
// stream: `Important: nodejs:16 security update`.
var namedStream = regexp.MustCompile(`(?:^|\s)([a-zA-Z][a-zA-Z0-9_.+-]*):([a-zA-Z0-9][a-zA-Z0-9_.-]*)(?:\s|$)`)

// moduleStream is the stream of an entry about rpm packages: none unless a version
// in it was built in a module. The records have no member for it.
func (a *Affected) moduleStream(summary string) string {
	modular := slices.ContainsFunc(a.Versions, isModular)
	for _, events := range a.Ranges {
		modular = modular || slices.ContainsFunc(events, func(e Event) bool { return isModular(e.version()) })
	}
	if !modular {
		return ""
	}
	if m := namedStream.FindAllStringSubmatch(summary, -1); len(m) == 1 {
		return m[0][1] + ":" + m[0][2]
	}
	return anyStream
}
