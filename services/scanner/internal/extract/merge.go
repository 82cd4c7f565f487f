package extract

import (
	"slices"
	"strings"

	"github.com/google/osv-scalibr/purl"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// merger stacks the outcomes of layers, lowest first.
type merger struct {
	tree    *tree
	digests []string
	// origins tells for each package of a package database which layer's version of
	// the database was the first to have it: by path, then by identity.
	origins  map[string]map[string]int
	problems []string
	// left is how many packages origins may still name. Links cost a layer next to
	// nothing, and every one to a package database names all of its packages.
	left int
	// limit is the number of packages of an inventory; over tells that there are
	// more, and that what was merged is not whole.
	limit int
	over  bool
	// files are those of the merged tree, while its inventory is taken.
	files []placed
	// had has the place of a database of each kind of OS packages that any layer had.
	had map[string]string
	// secrets are the files with credentials of all layers.
	secrets []placedSecrets
	// remember keeps the packages of files in the form of reports, for other images
	// that have them at the same place.
	remember bool
}

// spare is how many times the limit is held before doubles are taken out.
const spare = 2

func newMerger(limit int) *merger {
	return &merger{tree: newTree(), origins: map[string]map[string]int{}, had: map[string]string{}, left: spare * limit, limit: limit}
}

// add puts a layer on top. Whiteouts hide what lower layers have, wherever in the
// layer they stand, so they are applied first.
func (m *merger) add(l *layerResult) {
	index := len(m.digests)
	m.digests = append(m.digests, l.digest)
	for i := range l.events {
		m.hide(&l.events[i])
	}
	for i := range l.events {
		m.apply(&l.events[i], index)
	}
}

func (m *merger) hide(e *event) {
	switch e.kind {
	case kindWhiteout:
		if cs, ok := m.tree.resolve(e.path); ok {
			m.tree.remove(cs)
		}
	case kindOpaque:
		if e.path == "" {
			m.tree.root.children = nil
			return
		}
		if cs, ok := m.tree.resolve(e.path); ok {
			m.tree.clear(cs)
		}
	default:
	}
}

func (m *merger) apply(e *event, layer int) {
	switch {
	case e.kind == kindWhiteout || e.kind == kindOpaque:
		return
	case (e.kind == kindDir || e.kind == kindFile && e.file == nil) && m.tree.empty(e.path):
		// Most entries are of no interest and hide nothing.
		return
	}
	cs, ok := m.tree.resolve(e.path)
	if !ok {
		m.problems = append(m.problems, "a path leads through a cycle of symbolic links")
		return
	}
	switch e.kind {
	case kindDir:
		m.tree.mkdir(cs)
	case kindSymlink:
		m.tree.put(cs, &node{target: e.target, wanted: e.wanted, layer: layer})
	case kindHardLink:
		m.link(e, cs, layer)
	default:
		if e.file == nil {
			m.tree.hide(cs)
			return
		}
		m.place(cs, &node{file: e.file, name: e.path, layer: layer})
	}
}

// link makes another name for a file. A wanted name whose content was not looked
// into leaves the report incomplete.
func (m *merger) link(e *event, cs []string, layer int) {
	var target *node
	if ts, ok := m.tree.resolve(e.target); ok {
		target = m.tree.at(ts)
	}
	switch {
	case target != nil && target.target != "":
		// A symbolic link has several names like any file.
		m.tree.put(cs, &node{target: target.target, wanted: ofPackages(e.wanted), layer: layer})
	case target != nil && target.file != nil && target.file.considers(e.wanted):
		m.place(cs, &node{file: target.file, name: e.path, layer: layer})
	case len(e.wanted) > 0 && !onlyExecutable(e.wanted):
		m.place(cs, &node{file: &file{problem: e.path + ": a hard link to a file that was not read"}, name: e.path, layer: layer})
	default:
		m.tree.hide(cs)
	}
}

// onlyExecutable: every file with an execute bit is wanted by the extractor of
// executables, so that alone says nothing about the link.
func onlyExecutable(ps []*plugin) bool {
	return !slices.ContainsFunc(ps, func(p *plugin) bool { return !p.executable })
}

func (m *merger) place(cs []string, n *node) {
	m.tree.put(cs, n)
	path := strings.Join(cs, "/")
	if n.file.secrets != nil && len(m.secrets) < maxSecretFiles {
		m.secrets = append(m.secrets, placedSecrets{path: path, kinds: n.file.secrets, layer: n.layer})
	}
	if !n.file.database {
		return
	}
	if len(n.file.packages) > 0 {
		m.had[n.file.packages[0].purlType] = path
	}
	before := m.origins[path]
	m.left += len(before) - len(n.file.packages)
	if m.left < 0 {
		m.over = true
		return
	}
	now := make(map[string]int, len(n.file.packages))
	for i := range n.file.packages {
		id := n.file.packages[i].identity()
		if first, ok := before[id]; ok {
			now[id] = first
		} else {
			now[id] = n.layer
		}
	}
	m.origins[path] = now
}

// inventory tells what is in the image now that all layers are merged.
func (m *merger) inventory() core.Inventory {
	inv := core.Inventory{Problems: m.problems}
	m.files = m.tree.files()
	d := m.distro()
	inv.Distro = core.Distro{ID: d.id, Version: d.version}
	owned := m.ownership(d)
	installed := m.installation(owned)
	for _, n := range m.files {
		m.packagesOf(&inv, n, d, owned, installed)
	}
	m.facts(&inv)
	inv.Problems = append(inv.Problems, m.unread(&inv, d)...)
	inv.Problems = append(inv.Problems, m.unreadFiles(owned, installed)...)
	core.SortPackages(inv.Packages)
	inv.Packages = slices.CompactFunc(inv.Packages, func(a, b core.Package) bool {
		return a.PURL == b.PURL && a.Location == b.Location
	})
	without := ""
	for i := range inv.Packages {
		if inv.Packages[i].Ecosystem != "" {
			continue
		}
		// Packages are in the order of their kinds.
		if p := noAdvisories(&inv.Packages[i], d); p != without {
			without = p
			inv.Problems = append(inv.Problems, p)
		}
	}
	slices.Sort(inv.Problems)
	inv.Problems = slices.Compact(inv.Problems)
	return inv
}

// noAdvisories names what no advisories are known for: the packages of a distribution, or a
// kind of package. There are a few of each at most.
func noAdvisories(p *core.Package, d distro) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(p.PURL, "pkg:"), "/")
	switch kind {
	case purl.TypeDebian, purl.TypeApk, purl.TypeRPM:
		return "no advisories are known for packages of the distribution " + d.title()
	}
	return "no advisories are known for packages of the kind " + kind
}

// packagesOf adds the packages of one file.
func (m *merger) packagesOf(inv *core.Inventory, n placed, d distro, owned ownership, installed installation) {
	if n.file.problem != "" {
		inv.Problems = append(inv.Problems, valid(n.file.problem))
	}
	if n.file.untold != "" && !owned.file(n.path, n.layer) {
		inv.Problems = append(inv.Problems, valid(n.file.untold))
	}
	packages := m.reported(n, d)
	for i := range n.file.packages {
		f := &n.file.packages[i]
		if m.over {
			return
		}
		if f.as != "" && f.as != n.name {
			continue
		}
		if m.over = len(inv.Packages) >= spare*m.limit; m.over {
			return
		}
		layer := n.layer
		if n.file.database {
			layer = m.origins[n.path][f.identity()]
		}
		if owned.owns(f, n.path, n.layer) || f.lock && installed.covers(f, n.path) {
			continue
		}
		var p core.Package
		if packages == nil {
			p = f.pkg(d, valid(n.path))
		} else {
			p = packages[i]
		}
		p.LayerDigest = m.digests[layer]
		inv.Packages = append(inv.Packages, p)
	}
}

// reports is how the packages of a file are reported at a place of an image of a
// distribution, but for the layer.
type reports struct {
	distro   distro
	place    string
	packages []core.Package
}

// reported returns how the packages of a file are reported, if that is remembered. It
// is not for files whose names matter: each would be another.
func (m *merger) reported(n placed, d distro) []core.Package {
	if !m.remember || slices.ContainsFunc(n.file.packages, func(f found) bool { return f.as != "" }) {
		return nil
	}
	if r := n.file.reports.Load(); r != nil && r.distro == d && r.place == n.path {
		return r.packages
	}
	r := &reports{distro: d, place: n.path, packages: make([]core.Package, len(n.file.packages))}
	place := valid(n.path)
	for i := range n.file.packages {
		r.packages[i] = n.file.packages[i].pkg(d, place)
	}
	n.file.reports.Store(r)
	return r.packages
}
