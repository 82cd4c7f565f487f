package extract

import (
	"maps"
	"path"
	"slices"
	"strings"
)

// Bounds on the clues of an archive, which become part of its package URL.
const (
	maxArtifacts  = 12
	maxClaims     = 6
	maxIdentifier = 100
)

// readManifest reads the main section of a manifest.
func (j *jarFile) readManifest(text []byte) {
	if j.manifest == nil {
		j.manifest = map[string]string{}
	}
	var key string
	var value strings.Builder
	end := func() {
		if key != "" && value.Len() <= maxText {
			j.manifest[key] = firstOf(j.manifest[key], strings.TrimSpace(value.String()))
		}
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if rest, ok := strings.CutPrefix(line, " "); ok {
			if value.Len() <= maxText {
				_, _ = value.WriteString(rest)
			}
			continue
		}
		end()
		value.Reset()
		name, rest, ok := strings.Cut(line, ":")
		if !ok {
			if line == "" && key != "" {
				key = ""
				break // the sections of single files follow
			}
			key = ""
			continue
		}
		key = strings.ToLower(strings.TrimSpace(name))
		_, _ = value.WriteString(rest)
	}
	end()
}

// symbolicName is the name of an OSGi bundle without its directives.
func (j *jarFile) symbolicName() string {
	name, _, _ := strings.Cut(j.manifest["bundle-symbolicname"], ";")
	return strings.TrimSpace(name)
}

// split takes the name of an archive apart where a version may begin: `log4j-1.2-api-2.14.1` at
// two places. The first is the likelier, unless another gives the version of the manifest.
func (j *jarFile) split() (artifact, version string) {
	name := strings.TrimSuffix(j.name, path.Ext(j.name))
	artifact = name
	for i := 1; i+1 < len(name); i++ {
		if (name[i] != '-' && name[i] != '_') || digits(name[i+1:]) == 0 {
			continue
		}
		v := name[i+1:]
		if version == "" {
			artifact, version = name[:i], v
		}
		if v == j.manifestVersion() {
			return name[:i], v
		}
	}
	return artifact, version
}

// versionOf is the version of the archive if its artifact is called so.
func (j *jarFile) versionOf(artifact string) string {
	name := strings.TrimSuffix(j.name, path.Ext(j.name))
	if rest, ok := strings.CutPrefix(name, artifact); ok && len(rest) > 1 && digits(rest[1:]) > 0 && strings.ContainsAny(rest[:1], "-_") {
		return rest[1:]
	}
	if _, v := j.split(); v != "" {
		return v
	}
	return j.manifestVersion()
}

// manifestVersion is the version of the manifest that looks like one.
func (j *jarFile) manifestVersion() string {
	for _, key := range []string{"implementation-version", "bundle-version", "specification-version", "plugin-version"} {
		// Some have the time of the build behind the version.
		v, _, _ := strings.Cut(j.manifest[key], " ")
		if digits(v) > 0 && isIdentifier(v) {
			return v
		}
	}
	return ""
}

// artifacts are what the artifact of the archive may be called, the likeliest first.
func (j *jarFile) artifacts() []string {
	var out []string
	add := func(s string) {
		if isIdentifier(s) && len(out) < maxArtifacts && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	name, _ := j.split()
	add(name)
	for _, key := range []string{"implementation-title", "bundle-name", "specification-title", "extension-name"} {
		title := j.manifest[key]
		add(title)
		add(strings.ReplaceAll(strings.ToLower(title), " ", "-"))
	}
	for _, dotted := range []string{j.symbolicName(), j.manifest["automatic-module-name"]} {
		add(dotted)
		// `spring.beans` is spring-beans, and `org.apache.tomcat-embed-core` is tomcat-embed-core.
		parts := strings.Split(dotted, ".")
		for i := range parts {
			if s := strings.Join(parts[i:], "-"); strings.Contains(s, "-") {
				add(s)
			}
		}
	}
	return out
}

// claims are the names of the manifest that may be or begin with a group.
func (j *jarFile) claims() []string {
	var out []string
	for _, s := range []string{
		j.manifest["implementation-vendor-id"], j.symbolicName(), j.manifest["automatic-module-name"],
		j.manifest["extension-name"], j.manifest["implementation-title"], j.manifest["main-class"],
	} {
		if isIdentifier(s) && strings.Contains(s, ".") && !slices.Contains(out, s) && len(out) < maxClaims {
			out = append(out, s)
		}
	}
	return out
}

// groupsOf are the groups of well-known artifacts that are built without a pom, by the
// beginning of the artifact; the longest beginning decides. The advisories decide what is
// matched, so this only makes the name in reports the usual one.
var groupsOf = map[string]string{
	"spring-": "org.springframework", "spring-security-": "org.springframework.security", "spring-boot": "org.springframework.boot",
	"spring-cloud-": "org.springframework.cloud", "spring-data-": "org.springframework.data", "spring-integration-": "org.springframework.integration",
	"spring-session-": "org.springframework.session", "spring-batch-": "org.springframework.batch", "spring-ldap-": "org.springframework.ldap",
	"spring-kafka": "org.springframework.kafka", "spring-amqp": "org.springframework.amqp", "spring-rabbit": "org.springframework.amqp",
	"spring-hateoas": "org.springframework.hateoas", "spring-retry": "org.springframework.retry", "spring-ws-": "org.springframework.ws",
	"tomcat-embed-": "org.apache.tomcat.embed", "hibernate-core": "org.hibernate", "hibernate-validator": "org.hibernate.validator",
}

// group is the likeliest group of the archive.
func (j *jarFile) group(artifact string) string {
	known := ""
	for prefix := range groupsOf {
		if strings.HasPrefix(artifact, prefix) && len(prefix) > len(known) {
			known = prefix
		}
	}
	if known != "" {
		return groupsOf[known]
	}
	if id := j.manifest["implementation-vendor-id"]; isIdentifier(id) && strings.Contains(id, ".") {
		return id
	}
	if name := j.symbolicName(); isIdentifier(name) && strings.Count(name, ".") > 0 {
		return name[:strings.LastIndexByte(name, '.')]
	}
	if i := strings.LastIndexByte(artifact, '.'); strings.Count(artifact, ".") > 1 {
		return strings.ToLower(artifact[:i])
	}
	if p := j.commonPackage(); strings.Contains(p, ".") {
		return p
	}
	return artifact
}

// commonPackage is what all Java packages of the archive begin with.
func (j *jarFile) commonPackage() string {
	roots := j.roots()
	if len(roots) == 0 {
		return ""
	}
	common := strings.Split(roots[0], ".")
	for _, r := range roots[1:] {
		parts := strings.Split(r, ".")
		n := 0
		for n < min(len(common), len(parts)) && common[n] == parts[n] {
			n++
		}
		common = common[:n]
	}
	return strings.Join(common, ".")
}

// isIdentifier tells whether a text can be an artifact, a group, a version or a Java package.
func isIdentifier(s string) bool {
	if s == "" || len(s) > maxIdentifier {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' && c != '+' {
			return false
		}
	}
	return true
}

// digits is the length of the number that s begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// sameNumbers tells whether two versions begin with the same numbers: `31.1-jre` and `31.1.0.jre`.
func sameNumbers(a, b string) bool {
	return slices.Equal(numbers(a), numbers(b))
}

func numbers(v string) []string {
	var out []string
	for {
		n := digits(v)
		if n == 0 {
			break
		}
		out = append(out, strings.TrimLeft(v[:n], "0"))
		if v = v[n:]; len(v) < 2 || v[0] != '.' {
			break
		}
		v = v[1:]
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
