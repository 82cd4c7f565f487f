package advisory

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxScores is the size of the largest list of scores, in bytes. The whole of EPSS
// is about 12 MB, CISA's catalogue 2 MB.
const MaxScores = 64 << 20

// maxScored is the number of vulnerabilities in a list of scores.
const maxScored = 2_000_000

// Score is what is known of the exploitation of one vulnerability.
type Score struct {
	ID string `json:"id"`
	// KEV: it is in CISA's catalogue of known exploited vulnerabilities.
	KEV bool `json:"kev,omitempty"`
	// EPSS is the probability of exploitation within 30 days, 0 to 1.
	EPSS float64 `json:"epss,omitempty"`
}

// ErrScores says that a list of scores cannot be read.
var ErrScores = errors.New("not a list of scores")

// IsKEV recognises CISA's catalogue among JSON files: no OSV record has these
// members.
func IsKEV(content []byte) bool {
	head := content[:min(len(content), 4<<10)]
	return bytes.Contains(head, []byte(`"catalogVersion"`)) && bytes.Contains(content, []byte(`"cveID"`))
}

// SetKEV takes over CISA's catalogue of known exploited vulnerabilities, JSON, in
// place of the one before.
func (b *Builder) SetKEV(content []byte) error {
	var c struct {
		Vulnerabilities []struct {
			ID string `json:"cveID"`
		} `json:"vulnerabilities"`
	}
	if len(content) > MaxScores {
		return fmt.Errorf("%w: larger than %d bytes", ErrScores, MaxScores)
	}
	if err := json.Unmarshal(content, &c); err != nil {
		return fmt.Errorf("%w: %w", ErrScores, err)
	}
	kev := map[string]bool{}
	for _, v := range c.Vulnerabilities {
		if v.ID == "" || len(v.ID) > 200 {
			return fmt.Errorf("%w: a vulnerability has no usable cveID", ErrScores)
		}
		kev[v.ID] = true
	}
	if len(kev) == 0 || len(kev) > maxScored {
		return fmt.Errorf("%w: it names %d vulnerabilities", ErrScores, len(kev))
	}
	b.kev = kev
	return nil
}

// SetEPSS takes over the scores of EPSS, CSV with the columns `cve` and `epss`, in
// place of those before.
func (b *Builder) SetEPSS(content []byte) error {
	if len(content) > MaxScores {
		return fmt.Errorf("%w: larger than %d bytes", ErrScores, MaxScores)
	}
	epss := map[string]float64{}
	cve, score, columns := -1, -1, 0
	sc := bufio.NewScanner(bytes.NewReader(content))
	for line := 1; sc.Scan(); line++ {
		if strings.HasPrefix(sc.Text(), "#") || sc.Text() == "" {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(sc.Text(), "\r"), ",")
		if columns == 0 {
			cve, score, columns = slices.Index(cells, "cve"), slices.Index(cells, "epss"), len(cells)
			if cve < 0 || score < 0 {
				return fmt.Errorf("%w: no columns cve and epss", ErrScores)
			}
			continue
		}
		if len(cells) != columns {
			return fmt.Errorf("%w: line %d has %d columns, not %d", ErrScores, line, len(cells), columns)
		}
		p, err := strconv.ParseFloat(cells[score], 64)
		if err != nil || !(p >= 0 && p <= 1) || cells[cve] == "" || len(cells[cve]) > 200 {
			return fmt.Errorf("%w: line %d has no usable score", ErrScores, line)
		}
		epss[strings.Clone(cells[cve])] = p
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrScores, err)
	}
	if len(epss) == 0 || len(epss) > maxScored {
		return fmt.Errorf("%w: it names %d vulnerabilities", ErrScores, len(epss))
	}
	b.epss = epss
	return nil
}

// Inherit takes from an older snapshot what the builder was not given: scores, and,
// if it was given scores only, the records.
func (b *Builder) Inherit(old *Snapshot) {
	if old == nil {
		return
	}
	if len(b.records) == 0 && (b.kev != nil || b.epss != nil) {
		for _, r := range old.records {
			b.records[r.ID] = versioned{record: r}
		}
		b.rejected += old.info.RejectedCount
	}
	if b.kev == nil {
		b.kev = map[string]bool{}
		for _, s := range old.scores {
			if s.KEV {
				b.kev[s.ID] = true
			}
		}
	}
	if b.epss == nil {
		b.epss = map[string]float64{}
		for _, s := range old.scores {
			if s.EPSS > 0 {
				b.epss[s.ID] = s.EPSS
			}
		}
	}
}

// scores are those of the builder, by id.
func (b *Builder) scores() []Score {
	byID := map[string]Score{}
	for id := range b.kev {
		byID[id] = Score{ID: id, KEV: true}
	}
	for id, p := range b.epss {
		if p > 0 {
			byID[id] = Score{ID: id, KEV: b.kev[id], EPSS: p}
		}
	}
	out := make([]Score, 0, len(byID))
	for _, s := range byID {
		out = append(out, s)
	}
	slices.SortFunc(out, compareScores)
	return out
}

func compareScores(a, b Score) int { return cmp.Compare(a.ID, b.ID) }

// score returns what is known of a vulnerability; the zero Score if nothing is.
func (s *Snapshot) score(id string) Score {
	i, ok := slices.BinarySearchFunc(s.scores, Score{ID: id}, compareScores)
	if !ok {
		return Score{}
	}
	return s.scores[i]
}
