package policy

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed packs/*.yaml
var packs embed.FS

// Packs lists the names of the built-in policy packs.
func Packs() []string {
	entries, err := packs.ReadDir("packs")
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Pack returns the document of a built-in policy pack.
func Pack(name string) ([]byte, error) {
	if !slices.Contains(Packs(), name) {
		return nil, fmt.Errorf("there is no policy pack %q; there are: %s", name, strings.Join(Packs(), ", "))
	}
	data, err := packs.ReadFile("packs/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("read policy pack: %w", err)
	}
	return data, nil
}
