package advisory

import (
	"cmp"
	"slices"
	"strings"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
)

// merge makes one finding a vulnerability of the hits of one package. Records that
// are aliases of each other, directly or by a third id, speak of one
// vulnerability. A distribution's advisory about several upstream vulnerabilities
// speaks of each of them.
func (s *Snapshot) merge(p *core.Package, hits []hit) []core.Finding {
	if len(hits) == 0 {
		return nil
	}
	u := unions{}
	type statement struct {
		hit  hit
		node string
	}
	var statements []statement
	for _, h := range hits {
		r := h.record
		if len(r.Upstream) > 1 {
			for _, up := range r.Upstream {
				u.find(up)
				statements = append(statements, statement{h, up})
			}
			continue
		}
		for _, id := range slices.Concat(r.Aliases, r.Upstream) {
			u.join(r.ID, id)
		}
		statements = append(statements, statement{h, r.ID})
	}
	groups := map[string]*group{}
	for _, st := range statements {
		root := u.find(st.node)
		g := groups[root]
		if g == nil {
			g = &group{ids: map[string]bool{}}
			groups[root] = g
		}
		g.hits = append(g.hits, st.hit)
		g.ids[st.hit.record.ID] = true
	}
	for _, id := range u.members() {
		if g := groups[u.find(id)]; g != nil {
			g.ids[id] = true
		}
	}
	out := make([]core.Finding, 0, len(groups))
	for _, g := range groups {
		f := g.finding(p)
		for _, id := range f.Aliases {
			known := s.score(id)
			f.KEV, f.EPSS = f.KEV || known.KEV, max(f.EPSS, known.EPSS)
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b core.Finding) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// group is what all databases say about one vulnerability of one package.
type group struct {
	hits []hit
	ids  map[string]bool
}

func (g *group) finding(p *core.Package) core.Finding {
	slices.SortFunc(g.hits, func(a, b hit) int { return cmp.Compare(a.record.ID, b.record.ID) })
	f := core.Finding{
		PURL: p.PURL, PackageName: p.Name, PackageVersion: p.Version,
		LayerDigest: p.LayerDigest, Location: p.Location,
	}
	for id := range g.ids {
		f.Aliases = append(f.Aliases, id)
	}
	slices.Sort(f.Aliases)
	f.ID = g.id(f.Aliases)
	var fixed []string
	var word, distro core.Severity
	for _, h := range g.hits {
		fixed = append(fixed, h.fixed...)
		consider(&f, h.affected.Score, h.affected.Vector)
		consider(&f, h.record.Score, h.record.Vector)
		distro = max(distro, distroSeverity(h))
		word = max(word, h.record.Severity, h.affected.Severity)
		f.KEV = f.KEV || h.record.KEV
		f.EPSS = max(f.EPSS, h.record.EPSS)
		if f.Summary == "" {
			f.Summary = h.record.Summary
		}
	}
	f.FixedVersions = sortVersions(p.Ecosystem, fixed)
	switch {
	case distro != 0:
		f.Severity = distro
	case strings.HasPrefix(f.ID, "MAL-"):
		// A package that is itself malware; such records carry no severity.
		f.Severity = core.SeverityCritical
	case f.CVSSVector != "":
		f.Severity = severityOfScore(f.CVSSScore)
	case word != 0:
		f.Severity = word
	default:
		f.Severity = core.SeverityUnknown
	}
	return f
}

// id prefers a CVE, then the advisory's own.
func (g *group) id(aliases []string) string {
	for _, id := range aliases {
		if strings.HasPrefix(id, "CVE-") {
			return id
		}
	}
	return g.hits[0].record.ID
}

// distroSeverity is what a distribution says about its own package: it knows how
// the package is built and used there.
func distroSeverity(h hit) core.Severity {
	base := baseEcosystem(h.affected.Ecosystem)
	switch base {
	case "Debian", "Ubuntu", "Alpine", "Wolfi", "Chainguard":
		return cmp.Or(h.affected.Severity, h.record.Severity)
	}
	if isRPM(base) {
		return cmp.Or(h.affected.Severity, h.record.Severity)
	}
	return 0
}

// unions is a union-find over advisory ids.
type unions map[string]string

func (u unions) find(id string) string {
	parent, ok := u[id]
	if !ok {
		u[id] = id
		return id
	}
	if parent == id {
		return id
	}
	root := u.find(parent)
	u[id] = root
	return root
}

func (u unions) join(a, b string) {
	ra, rb := u.find(a), u.find(b)
	if ra != rb {
		u[max(ra, rb)] = min(ra, rb)
	}
}

func (u unions) members() []string {
	out := make([]string, 0, len(u))
	for id := range u {
		out = append(out, id)
	}
	return out
}

// consider keeps the highest score and its vector.
func consider(f *core.Finding, score float64, vector string) {
	if vector != "" && (f.CVSSVector == "" || score > f.CVSSScore) {
		f.CVSSScore, f.CVSSVector = score, vector
	}
}
