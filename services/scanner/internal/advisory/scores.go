package advisory

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
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
	// The schema of the catalogue lies beside it and has the same words.
	return bytes.Contains(head, []byte(`"catalogVersion"`)) && !bytes.Contains(head, []byte(`"$schema"`)) && bytes.Contains(content, []byte(`"cveID"`))
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
// if it was given scores only, the records. The error is ErrCorrupt.
func (b *Builder) Inherit(old *Snapshot) error {
	if old == nil {
		return nil
	}
	if len(b.records) == 0 && (b.kev != nil || b.epss != nil) {
		records, err := old.Records()
		if err != nil {
			return err
		}
		for _, r := range records {
			b.records[r.ID] = versioned{record: r}
		}
		b.rejected += old.info.RejectedCount
	}
	if b.kev != nil && b.epss != nil {
		return nil
	}
	scores, err := old.Scores()
	if err != nil {
		return err
	}
	kev, epss := map[string]bool{}, map[string]float64{}
	for _, s := range scores {
		if s.KEV {
			kev[s.ID] = true
		}
		if s.EPSS > 0 {
			epss[s.ID] = s.EPSS
		}
	}
	if b.kev == nil {
		b.kev = kev
	}
	if b.epss == nil {
		b.epss = epss
	}
	return nil
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
	slices.SortFunc(out, func(a, b Score) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Scores are all scores, ordered by id; the error is ErrCorrupt.
func (s *Snapshot) Scores() ([]Score, error) {
	defer runtime.KeepAlive(s)
	rows := s.parts[sectionScores]
	out := make([]Score, len(rows)/scoreSize)
	for i := range out {
		id, err := s.slice(sectionStrings, u32at(rows, i*scoreSize), u32at(rows, i*scoreSize+4))
		if err != nil {
			return nil, err
		}
		out[i] = s.scoreAt(i, string(id))
	}
	return out, nil
}

func (s *Snapshot) scoreAt(i int, id string) Score {
	row := s.parts[sectionScores][i*scoreSize:]
	return Score{ID: id, EPSS: math.Float64frombits(u64at(row, 8)), KEV: u32at(row, 16) == 1}
}

// score returns what is known of a vulnerability; the zero Score if nothing is.
func (s *Snapshot) score(id string) Score {
	i, err := s.lookup(sectionScoreHash, sectionScores, scoreSize, 0, []byte(id), hashKey(id), false)
	if err != nil || i < 0 {
		return Score{}
	}
	return s.scoreAt(i, id)
}
