package imageref

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// CheckDigest accepts "sha256:" and 64 lower-case hex digits, nothing else.
func CheckDigest(d string) error {
	hex, ok := strings.CutPrefix(d, "sha256:")
	if !ok {
		return fmt.Errorf("digest %.80q lacks the prefix sha256", d)
	}
	if len(hex) != 64 {
		return fmt.Errorf("digest has %d characters after sha256:, not 64", len(hex))
	}
	for i := range len(hex) {
		if c := hex[i]; !isDigit(c) && (c < 'a' || c > 'f') {
			return fmt.Errorf("digest %q has a character that is not lower-case hex", d)
		}
	}
	return nil
}

func checkRegistry(s string) error {
	switch {
	case s == "":
		return errors.New("registry is empty")
	case len(s) > MaxRegistry:
		return fmt.Errorf("registry of %d bytes exceeds the limit of %d", len(s), MaxRegistry)
	}
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return fmt.Errorf("registry %q: missing ]", s)
		}
		addr, err := netip.ParseAddr(s[1:end])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return fmt.Errorf("registry %q is not an IPv6 address in brackets", s)
		}
		if s[end+1:] == "" {
			return nil
		}
		rest, ok := strings.CutPrefix(s[end+1:], ":")
		if !ok {
			return fmt.Errorf("registry %q: text after ]", s)
		}
		return checkPort(s, rest)
	}
	if h, p, ok := strings.Cut(s, ":"); ok {
		host, port = h, p
		if err := checkPort(s, port); err != nil {
			return err
		}
	}
	for label := range strings.SplitSeq(host, ".") {
		if !validLabel(label) {
			return fmt.Errorf("registry %q is not a lower-case host name with an optional port", s)
		}
	}
	if port == "" && host != "localhost" && !strings.Contains(host, ".") {
		return fmt.Errorf("registry %q could be a repository: give it a port or a dot", s)
	}
	return nil
}

func checkPort(registry, port string) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '0' || port[0] == '+' {
		return fmt.Errorf("registry %q: port is not 1 to 65535", registry)
	}
	return nil
}

func validLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isLowerAlnum(c) && c != '-' {
			return false
		}
	}
	return true
}

// checkRepository follows the OCI distribution specification:
// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* in each component.
func checkRepository(s string) error {
	switch {
	case s == "":
		return errors.New("repository is empty")
	case len(s) > MaxRepository:
		return fmt.Errorf("repository of %d bytes exceeds the limit of %d", len(s), MaxRepository)
	}
	for c := range strings.SplitSeq(s, "/") {
		if !validComponent(c) {
			return fmt.Errorf("repository %q: component %q is not in the grammar of the OCI distribution specification", s, c)
		}
	}
	return nil
}

func validComponent(s string) bool {
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && isLowerAlnum(s[i]) {
			i++
		}
		if i == start {
			return false
		}
		if i == len(s) {
			return true
		}
		sep := i
		for i < len(s) && !isLowerAlnum(s[i]) {
			i++
		}
		if !validSeparator(s[sep:i]) {
			return false
		}
	}
	return false
}

func validSeparator(s string) bool {
	return s == "." || s == "_" || s == "__" || strings.Trim(s, "-") == ""
}

// checkTag follows the OCI distribution specification: [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
func checkTag(s string) error {
	if len(s) > MaxTag {
		return fmt.Errorf("tag of %d bytes exceeds the limit of %d", len(s), MaxTag)
	}
	for i := range len(s) {
		c := s[i]
		word := isLowerAlnum(c) || c >= 'A' && c <= 'Z' || c == '_'
		if !word && (i == 0 || c != '.' && c != '-') {
			return fmt.Errorf("tag %q is not in the grammar of the OCI distribution specification", s)
		}
	}
	return nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLowerAlnum(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'z' }
