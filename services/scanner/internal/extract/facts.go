package extract

import (
	"archive/tar"
	"path"
	"regexp"
	"slices"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// maxFacts is how many files of one kind a report names.
const maxFacts = 1000

// shellNames are the names of shells, whatever directory they are in.
var shellNames = []string{"sh", "bash", "rbash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "csh", "tcsh"}

// managerNames are the names of package managers by those of their programs.
var managerNames = map[string]string{
	"apt": "apt", "apt-get": "apt", "dpkg": "dpkg", "apk": "apk", "rpm": "rpm", "dnf": "dnf", "dnf5": "dnf", "microdnf": "microdnf", "yum": "yum",
	"tdnf": "tdnf", "zypper": "zypper", "pacman": "pacman", "npm": "npm", "yarn": "yarn", "pnpm": "pnpm", "gem": "gem", "composer": "composer",
	"cargo": "cargo", "conda": "conda", "mamba": "mamba", "uv": "uv", "poetry": "poetry", "opkg": "opkg",
}

var pipName = regexp.MustCompile(`^pip[0-9]*(\.[0-9]+)?$`)

// manager is the package manager that a program belongs to, or empty.
func manager(p string) string {
	dir := path.Base(path.Dir(p))
	if dir != "bin" && dir != "sbin" {
		return ""
	}
	if base := path.Base(p); !pipName.MatchString(base) {
		return managerNames[base]
	}
	return "pip"
}

// bits are what the mode of a file says that policies judge.
type bits struct {
	// Exec: an executable regular file.
	Exec bool
	// Setuid: it also has the setuid or setgid bit.
	Setuid bool
}

func bitsOf(h *tar.Header) bits {
	exec := h.Mode&0o111 != 0
	return bits{Exec: exec, Setuid: exec && h.Mode&0o6000 != 0}
}

// facts tells what is in the merged image beside packages.
func (m *merger) facts(inv *core.Inventory) {
	if n := m.tree.follow(passwdFile); n != nil && n.file != nil {
		inv.Passwd = n.file.passwd
	}
	managers := map[string]bool{}
	m.tree.visit(func(p string, n *node) {
		if n.file != nil {
			for _, kind := range n.file.secrets {
				inv.Secrets = append(inv.Secrets, core.Secret{Kind: kind, Location: valid(p), LayerDigest: m.digests[n.layer]})
			}
			if n.file.bits.Setuid {
				inv.SetuidFiles = append(inv.SetuidFiles, valid(p))
			}
		}
		shell, manages := slices.Contains(shellNames, path.Base(p)), manager(p)
		if !shell && manages == "" {
			return
		}
		if n.target != "" {
			// A link to what is not there, or is no program, is none.
			n = m.tree.follow(p)
		}
		if n == nil || n.file == nil || !n.file.bits.Exec {
			return
		}
		if shell {
			inv.Shells = append(inv.Shells, valid(p))
		}
		if manages != "" {
			managers[manages] = true
		}
	})
	for name := range managers {
		inv.PackageManagers = append(inv.PackageManagers, name)
	}
	m.deletedSecrets(inv)
	slices.Sort(inv.PackageManagers)
	core.SortSecrets(inv.Secrets)
	for _, list := range []*[]string{&inv.SetuidFiles, &inv.Shells} {
		slices.Sort(*list)
		*list = (*list)[:min(len(*list), maxFacts)]
	}
	inv.Secrets = inv.Secrets[:min(len(inv.Secrets), maxFacts)]
}
