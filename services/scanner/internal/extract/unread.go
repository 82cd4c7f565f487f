package extract

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/google/osv-scalibr/purl"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// An image that was made from a distribution has OS packages. Where none can be read,
// nobody looked at them, and a report without findings would say that the image is clean.

// osKinds are the kinds of OS packages.
var osKinds = []string{purl.TypeDebian, purl.TypeApk, purl.TypeRPM, purl.TypeOpkg, purl.TypePacman, purl.TypePortage}

// releaseFiles tell in `etc` which distribution an image is from.
var releaseFiles = []string{
	"os-release", "lsb-release", "debian_version", "alpine-release", "redhat-release", "system-release", "centos-release", "fedora-release",
	"rocky-release", "almalinux-release", "oracle-release", "SuSE-release", "arch-release", "gentoo-release", "slackware-version",
	"photon-release", "mariner-release", "azurelinux-release", "wolfi-release",
}

// releasePlugin keeps the files that tell the distribution in the tree.
func releasePlugin() *plugin {
	return &plugin{
		name:     "release",
		required: func(p string, _ fs.FileInfo) bool { return isReleaseFile(p) },
		look:     func(context.Context, string, *content, *file) error { return nil },
	}
}

func isReleaseFile(p string) bool {
	dir, base := path.Split(p)
	return (dir == "etc/" || dir == "usr/lib/") && slices.Contains(releaseFiles, base)
}

// osManagers are the package managers of distributions.
var osManagers = []string{"apt", "dpkg", "apk", "rpm", "dnf", "microdnf", "yum", "tdnf", "zypper", "pacman", "opkg"}

// unread tells why the OS packages of the image are not known, or not for certain.
func (m *merger) unread(inv *core.Inventory, d distro) []string {
	have := map[string]bool{}
	listed := false
	for i := range inv.Packages {
		kind, _, _ := strings.Cut(strings.TrimPrefix(inv.Packages[i].PURL, "pkg:"), "/")
		have[kind] = true
		listed = listed || slices.Contains(osKinds, kind)
	}
	var out []string
	for kind, place := range m.had {
		if !have[kind] {
			out = append(out, fmt.Sprintf("a layer has the package database %s (%s), and a later one deleted it or all packages of it", valid(place), kind))
		}
	}
	if sign := m.sign(inv, d); !listed && sign != "" && len(out) == 0 {
		out = append(out, sign+", but no package database could be read")
	}
	if d.unreleased && have[purl.TypeDebian] {
		out = append(out, "the image is of Debian's testing or unstable, which advisories do not name; those of Debian "+d.version+" are compared")
	}
	return append(out, m.contradictions(inv, d)...)
}

// sign is what tells that an image was made from a distribution; empty if nothing does. A
// program and its data alone, as images from scratch have them, are none.
func (m *merger) sign(inv *core.Inventory, d distro) string {
	if d.id != "" {
		return "the image is of the distribution " + d.title()
	}
	for _, dir := range []string{"etc/", "usr/lib/"} {
		for _, base := range releaseFiles {
			// A link that leads nowhere also tells.
			if cs, ok := m.tree.resolve(dir + base); ok {
				if n := m.tree.at(cs); n != nil && (n.file != nil || n.target != "") {
					return "the image has " + dir + base
				}
			}
		}
	}
	for _, manager := range inv.PackageManagers {
		if slices.Contains(osManagers, manager) {
			return "the image has the package manager " + manager
		}
	}
	libc := ""
	m.tree.visit(func(p string, n *node) {
		if n.file != nil && isLibC(p) && (libc == "" || p < libc) {
			libc = p
		}
	})
	if libc != "" {
		return "the image has the C library of a distribution (" + valid(libc) + ")"
	}
	return ""
}

// isLibC recognises the dynamic loaders of the GNU C library and of musl, and the libraries
// themselves, in the directories of the system.
func isLibC(p string) bool {
	dir, base := path.Split(p)
	if dir = strings.TrimPrefix(dir, "usr/"); !strings.HasPrefix(dir, "lib") {
		return false
	}
	return strings.HasPrefix(base, "ld-linux") || strings.HasPrefix(base, "ld-musl-") || strings.HasPrefix(base, "ld64.so") || base == "libc.so.6"
}

// contradictions name what says that os-release is not that of the packages: another
// os-release, and the package that a distribution builds anew for each release.
func (m *merger) contradictions(inv *core.Inventory, d distro) []string {
	var out []string
	if n := m.tree.follow("usr/lib/os-release"); n != nil && n.file != nil && n.file.osRelease != nil {
		if other := parseOSRelease(string(n.file.osRelease)); other.id != "" && d.id != "" && other != d {
			out = append(out, fmt.Sprintf("etc/os-release says %s, usr/lib/os-release %s", d.title(), other.title()))
		}
	}
	for i := range inv.Packages {
		p := &inv.Packages[i]
		if d.contradicts(p.Name, p.Version) {
			out = append(out, fmt.Sprintf("os-release says %s, but the package %s %s is of another release", d.title(), p.Name, p.Version))
		}
	}
	return out
}

// contradicts tells whether a package is certainly of another release.
func (d distro) contradicts(name, version string) bool {
	major := version[:len(version)-len(strings.TrimLeft(version, "0123456789"))]
	switch {
	case name == "base-files" && d.id == "debian":
		own, _, _ := strings.Cut(d.version, ".")
		return strings.Contains(version, "ubuntu") || own != "" && !d.unreleased && major != own
	case name == "base-files" && d.id == "ubuntu":
		return !strings.Contains(version, "ubuntu")
	case name == "alpine-release" && d.id == "alpine":
		own, _, _ := strings.Cut(d.version, "_")
		return own != "" && !strings.HasPrefix(version, own)
	case name == d.id+"-release" && (d.id == "almalinux" || d.id == "rocky"):
		own, _, _ := strings.Cut(d.version, ".")
		return own != "" && major != own
	}
	return false
}

// maxSecretFiles is how many files with credentials of all layers are remembered.
const maxSecretFiles = 10 * maxFacts

type placedSecrets struct {
	path  string
	kinds []string
	layer int
}

// deletedSecrets adds the credentials in files that a later layer deleted or replaced: who
// can pull the image can read every layer.
func (m *merger) deletedSecrets(inv *core.Inventory) {
	type secret struct{ kind, location string }
	seen := map[secret]bool{}
	for _, s := range inv.Secrets {
		seen[secret{s.Kind, s.Location}] = true
	}
	for i := len(m.secrets) - 1; i >= 0; i-- {
		s := m.secrets[i]
		for _, kind := range s.kinds {
			location := valid(s.path)
			if seen[secret{kind, location}] {
				continue
			}
			seen[secret{kind, location}] = true
			inv.Secrets = append(inv.Secrets, core.Secret{Kind: kind, Location: location, LayerDigest: m.digests[s.layer], Deleted: true})
		}
	}
}
