package record

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// maxHead bounds the attestations, refusals, labels and secrets of the head.
const maxHead = 100_000

// Flags of the head.
const (
	flagReport = 1 << iota
	flagIncomplete
	flagNonRoot
	flagNoExploited
	flagNoScores
	flagUnread
)

// writeHead is evidence without findings, packages and predicates: one row with a row of
// its own for each attestation, refusal, label and secret.
func writeHead(e core.PlatformEvidence) ([]byte, bool) {
	w := newWriter()
	if !w.short(len(e.Attestations), len(e.Rejected)) {
		return nil, false
	}
	var flags uint64
	if e.Report != nil {
		flags |= flagReport
		if e.Report.Incomplete {
			flags |= flagIncomplete
		}
		if e.Report.Image.NonRoot {
			flags |= flagNonRoot
		}
		if e.Report.NoExploited {
			flags |= flagNoExploited
		}
		if e.Report.NoScores {
			flags |= flagNoScores
		}
	}
	if e.Unread != "" {
		flags |= flagUnread
	}
	w.number(flags)
	w.text(e.Digest)
	w.platform(e.Platform)
	w.time(e.NotBefore)
	w.count(len(e.Attestations), e.Attestations == nil)
	for i := range e.Attestations {
		w.attestation(&e.Attestations[i])
	}
	w.count(len(e.Rejected), e.Rejected == nil)
	for _, r := range e.Rejected {
		w.text(r.PredicateType)
		w.text(r.ManifestDigest)
		w.text(r.Why)
	}
	// Few images have any.
	vex := ""
	if e.VEX != nil {
		b, err := json.Marshal(e.VEX)
		if err != nil {
			return nil, false
		}
		vex = string(b)
	}
	w.text(vex)
	if e.Unread != "" {
		w.text(e.Unread)
	}
	if r := e.Report; r != nil {
		w.attestation(&r.Source)
		w.platform(r.Platform)
		w.text(r.AdvisoryDigest)
		w.time(r.AdvisoryTime)
		w.list(r.Problems)
		if !w.image(&r.Image) {
			return nil, false
		}
	}
	return w.finish(1, false)
}

func readHead(b []byte) (core.PlatformEvidence, error) {
	r, n, err := newReader(b, 1, 1)
	if err != nil {
		return core.PlatformEvidence{}, err
	}
	if n != 1 {
		return core.PlatformEvidence{}, errTables
	}
	var e core.PlatformEvidence
	flags := r.number()
	e.Digest = r.text()
	e.Platform = r.platform()
	e.NotBefore = r.time()
	if n := r.rows(); n >= 0 {
		e.Attestations = make([]core.Attestation, n)
	}
	for i := range e.Attestations {
		r.attestation(&e.Attestations[i])
	}
	if n := r.rows(); n >= 0 {
		e.Rejected = make([]core.Rejected, n)
	}
	for i := range e.Rejected {
		e.Rejected[i] = core.Rejected{PredicateType: r.text(), ManifestDigest: r.text(), Why: r.text()}
	}
	if vex := r.text(); vex != "" {
		if err := decodeStrict([]byte(vex), &e.VEX); err != nil {
			return core.PlatformEvidence{}, err
		}
	}
	if flags&flagUnread != 0 {
		e.Unread = r.text()
	}
	if flags&flagReport != 0 {
		e.Report = &core.Report{
			Incomplete: flags&flagIncomplete != 0, NoExploited: flags&flagNoExploited != 0, NoScores: flags&flagNoScores != 0,
		}
		r.attestation(&e.Report.Source)
		e.Report.Platform = r.platform()
		e.Report.AdvisoryDigest = r.text()
		e.Report.AdvisoryTime = r.time()
		e.Report.Problems = r.list()
		r.image(&e.Report.Image)
		e.Report.Image.NonRoot = flags&flagNonRoot != 0
	}
	return e, r.end()
}

func (w *writer) short(counts ...int) bool { return slices.Max(counts) <= maxHead }

// count is a number of rows, told from no list at all.
func (w *writer) count(n int, none bool) {
	if none {
		w.number(0)
		return
	}
	w.number(uint64(n) + 1)
}

// rows is what count wrote, -1 for no list at all.
func (r *reader) rows() int {
	n := r.number()
	if n > maxHead+1 || n > uint64(r.left())+1 {
		r.fail()
		return -1
	}
	return int(n) - 1
}

func (w *writer) platform(p core.Platform) {
	w.text(p.OS)
	w.text(p.Architecture)
	w.text(p.Variant)
}

func (r *reader) platform() core.Platform {
	return core.Platform{OS: r.text(), Architecture: r.text(), Variant: r.text()}
}

func (w *writer) attestation(a *core.Attestation) {
	w.text(a.PredicateType)
	w.text(a.ManifestDigest)
	w.text(a.KeyID)
	w.text(a.Identity)
	w.text(a.Issuer)
	w.time(a.SignTime)
}

func (r *reader) attestation(a *core.Attestation) {
	a.PredicateType = r.text()
	a.ManifestDigest = r.text()
	a.KeyID = r.text()
	a.Identity = r.text()
	a.Issuer = r.text()
	a.SignTime = r.time()
}

func (w *writer) image(i *core.Image) bool {
	if !w.short(len(i.Labels), len(i.Secrets)) {
		return false
	}
	for _, s := range [...]string{i.Registry, i.Repository, i.Digest, i.Platform, i.User, i.Distro.ID, i.Distro.Version, i.BaseImage.Name, i.BaseImage.Digest} {
		w.text(s)
	}
	w.signed(i.BaseImage.LayerCount)
	w.time(i.Created)
	w.time(i.DistroEndTime)
	for _, l := range [...][]string{i.Entrypoint, i.Cmd, i.ExposedPorts, i.EnvNames, i.SetuidFiles, i.PackageManagers, i.Shells} {
		w.list(l)
	}
	w.count(len(i.Labels), i.Labels == nil)
	for _, k := range slices.Sorted(maps.Keys(i.Labels)) {
		w.text(k)
		w.text(i.Labels[k])
	}
	w.count(len(i.Secrets), i.Secrets == nil)
	for _, s := range i.Secrets {
		w.text(s.Kind)
		w.text(s.Location)
		w.text(s.LayerDigest)
	}
	return true
}

func (r *reader) image(i *core.Image) {
	for _, s := range [...]*string{&i.Registry, &i.Repository, &i.Digest, &i.Platform, &i.User, &i.Distro.ID, &i.Distro.Version, &i.BaseImage.Name, &i.BaseImage.Digest} {
		*s = r.text()
	}
	i.BaseImage.LayerCount = r.signed()
	i.Created = r.time()
	i.DistroEndTime = r.time()
	for _, l := range [...]*[]string{&i.Entrypoint, &i.Cmd, &i.ExposedPorts, &i.EnvNames, &i.SetuidFiles, &i.PackageManagers, &i.Shells} {
		*l = r.list()
	}
	if n := r.rows(); n >= 0 {
		i.Labels = make(map[string]string, n)
		for range n {
			k := r.text()
			i.Labels[k] = r.text()
		}
	}
	if n := r.rows(); n >= 0 {
		i.Secrets = make([]core.Secret, n)
	}
	for k := range i.Secrets {
		i.Secrets[k] = core.Secret{Kind: r.text(), Location: r.text(), LayerDigest: r.text()}
	}
}
