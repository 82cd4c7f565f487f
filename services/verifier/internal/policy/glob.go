package policy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var globPattern = regexp.MustCompile(`^[A-Za-z0-9._:/*?\[\]-]{1,512}$`)

// compileGlobs returns a matcher of names given as registry/repository. `*` is
// any text without a slash, `**` any text, `?` one character that is no slash.
func compileGlobs(globs []string) (func(string) bool, error) {
	if len(globs) == 0 {
		return nil, errors.New("at least one glob is needed; ** matches every repository")
	}
	if len(globs) > MaxGlobs {
		return nil, fmt.Errorf("%d globs, more than %d", len(globs), MaxGlobs)
	}
	alternatives := make([]string, 0, len(globs))
	for _, g := range globs {
		if !globPattern.MatchString(g) {
			return nil, fmt.Errorf("invalid pattern %q of registry/repository", g)
		}
		if namesTag(g) {
			return nil, fmt.Errorf("%q names a tag, and would match nothing: a verdict is about a digest, whatever its tags; "+
				"write registry/repository without a tag", g)
		}
		alternatives = append(alternatives, globExpression(g))
	}
	re, err := regexp.Compile(`^(?:` + strings.Join(alternatives, "|") + `)$`)
	if err != nil {
		return nil, fmt.Errorf("compile globs: %w", err)
	}
	return re.MatchString, nil
}

// namesTag tells whether a glob has a colon where only a tag can have one. The name of
// a repository has none; that of a registry has one before its port, and a slash after it.
func namesTag(glob string) bool {
	i := strings.LastIndexByte(glob, ':')
	if i < 0 {
		return false
	}
	before, after := glob[:i], glob[i+1:]
	return strings.Contains(before, "/") || !strings.Contains(after, "/") && !strings.Contains(after, "**")
}

func globExpression(glob string) string {
	var b strings.Builder
	for i := 0; i < len(glob); i++ {
		switch c := glob[i]; {
		case strings.HasPrefix(glob[i:], "**"):
			b.WriteString(".*")
			for i+1 < len(glob) && glob[i+1] == '*' {
				i++
			}
		case c == '*':
			b.WriteString("[^/]*")
		case c == '?':
			b.WriteString("[^/]")
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return b.String()
}

// Glob returns a matcher of names given as registry/repository, as in
// spec.match.repositories.
func Glob(glob string) (func(name string) bool, error) {
	return compileGlobs([]string{glob})
}

// Matching returns what tells whether a repository, as registry/repository, matches any
// of the globs; no globs match all.
func Matching(globs []string) (func(repository string) bool, error) {
	if len(globs) == 0 {
		return func(string) bool { return true }, nil
	}
	matchers := make([]func(string) bool, 0, len(globs))
	for _, g := range globs {
		m, err := Glob(g)
		if err != nil {
			return nil, err
		}
		matchers = append(matchers, m)
	}
	return func(repository string) bool {
		return slices.ContainsFunc(matchers, func(m func(string) bool) bool { return m(repository) })
	}, nil
}
