package extract

import (
	"slices"
	"strings"

	"github.com/google/osv-scalibr/purl"
)

// maxOSRelease is how much of an os-release file is read.
const maxOSRelease = 64 << 10

// distro is the distribution of an image.
type distro struct {
	id string
	// version is VERSION_ID; of Debian's testing and unstable, which have none, the number
	// that the next release will have.
	version string
	// unreleased tells that the version is that of the next release.
	unreleased bool
}

// distro reads the first os-release file in the order of os-release(5); links
// such as /etc/os-release → ../usr/lib/os-release are followed.
func (m *merger) distro() distro {
	for _, p := range []string{"etc/os-release", "usr/lib/os-release"} {
		if n := m.tree.follow(p); n != nil && n.file != nil && n.file.osRelease != nil {
			return parseOSRelease(string(n.file.osRelease))
		}
	}
	return distro{}
}

// debianNext are the numbers of Debian's releases by their code names. Testing and
// unstable have no VERSION_ID, and the same os-release: nothing tells them apart.
var debianNext = map[string]string{"bookworm": "12", "trixie": "13", "forky": "14", "duke": "15"}

func parseOSRelease(content string) distro {
	var d distro
	codename := ""
	for line := range strings.Lines(content) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		value = strings.ToValidUTF8(strings.Trim(strings.TrimSpace(value), `"'`), "")
		if len(value) > 128 {
			continue
		}
		switch key {
		case "ID":
			d.id = strings.ToLower(value)
		case "VERSION_ID":
			d.version = value
		case "VERSION_CODENAME":
			codename = strings.ToLower(value)
		}
	}
	if d.id == "debian" && d.version == "" {
		d.version, d.unreleased = debianNext[codename], true
	}
	return d
}

func (d distro) title() string {
	if d.id == "" {
		return "(no os-release)"
	}
	return strings.TrimSpace(d.id + " " + d.version)
}

// debEcosystem is the OSV ecosystem of the distribution's dpkg packages.
func (d distro) debEcosystem() string {
	major, minor, _ := strings.Cut(d.version, ".")
	switch d.id {
	case "debian":
		if major == "" {
			return "Debian"
		}
		return "Debian:" + major
	case "ubuntu":
		if d.version == "" {
			return ""
		}
		if minor == "04" && len(major) == 2 && (major[1]-'0')%2 == 0 {
			return "Ubuntu:" + d.version + ":LTS"
		}
		return "Ubuntu:" + d.version
	}
	return ""
}

// apkEcosystem is the OSV ecosystem of the distribution's apk packages.
func (d distro) apkEcosystem() string {
	switch d.id {
	case "alpine":
		major, rest, ok := strings.Cut(d.version, ".")
		if !ok {
			return ""
		}
		if strings.Contains(rest, "_") {
			// edge calls itself an alpha of the next release. Its packages are newer than
			// those of every release, also where they lack a fix.
			return "Alpine:edge"
		}
		minor, _, _ := strings.Cut(rest, ".")
		return "Alpine:v" + major + "." + minor
	case "wolfi":
		return "Wolfi"
	case "chainguard":
		return "Chainguard"
	}
	return ""
}

// rpmEcosystem is the OSV ecosystem of the distribution's rpm packages. The
// advisories of Red Hat and of SUSE's Linux Enterprise are one ecosystem for every
// product and module, and an image does not tell which of them a package is from:
// none is named, so the report is incomplete.
func (d distro) rpmEcosystem() string {
	major, _, _ := strings.Cut(d.version, ".")
	if d.version == "" {
		return ""
	}
	switch d.id {
	case "almalinux":
		return "AlmaLinux:" + major
	case "rocky":
		return "Rocky Linux:" + major
	case "opensuse-leap":
		return "openSUSE:Leap " + d.version
	case "opensuse-tumbleweed":
		return "openSUSE:Tumbleweed"
	case "mageia":
		return "Mageia:" + d.version
	case "azurelinux", "mariner":
		return "Azure Linux:" + major
	case "photon":
		return "Photon OS:" + d.version
	}
	return ""
}

// makers is how the distributions with advisories call themselves in their packages.
var makers = map[string][]string{
	"debian": {"debian"}, "ubuntu": {"ubuntu", "debian"}, "almalinux": {"almalinux"}, "rocky": {"rocky"}, "opensuse-leap": {"suse"},
	"opensuse-tumbleweed": {"suse"}, "mageia": {"mageia"}, "azurelinux": {"microsoft"}, "mariner": {"microsoft"}, "photon": {"vmware", "broadcom"},
}

// made tells whether the distribution built a package with this vendor or maintainer.
func (d distro) made(purlType, maker string) bool {
	names := makers[d.id]
	if names == nil || purlType == purl.TypeDebian && maker == "" {
		return true // no advisories decide, or a database without maintainers
	}
	maker = strings.ToLower(maker)
	return slices.ContainsFunc(names, func(name string) bool { return strings.Contains(maker, name) })
}

// advisoriesByBinary: AlmaLinux' advisories name the packages that are installed,
// those of the others their source packages.
func (d distro) advisoriesByBinary() bool { return d.id == "almalinux" }
