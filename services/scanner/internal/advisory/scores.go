package advisory

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
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
		Released        time.Time `json:"dateReleased"`
		Vulnerabilities []struct {
			ID string `json:"cveID"`
		} `json:"vulnerabilities"`
	}
	if len(content) > MaxScores {
		return fmt.Errorf("%w: larger than %d bytes", ErrScores, MaxScores)
	}
	if err := strictjson.Unmarshal(content, &c); err != nil {
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
	b.kev, b.kevTime, b.kevGiven = kev, c.Released.UTC(), true
	return nil
}

// SetEPSS takes over the scores of EPSS, CSV with the columns `cve` and `epss`, in
// place of those before.
func (b *Builder) SetEPSS(content []byte) error {
	if len(content) > MaxScores {
		return fmt.Errorf("%w: larger than %d bytes", ErrScores, MaxScores)
	}
	epss := map[string]float64{}
	var made time.Time
	cve, score, columns := -1, -1, 0
	sc := bufio.NewScanner(bytes.NewReader(content))
	for line := 1; sc.Scan(); line++ {
		if comment, ok := strings.CutPrefix(sc.Text(), "#"); ok || comment == "" {
			if t := scoreDate(comment); !t.IsZero() {
				made = t
			}
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
	b.epss, b.epssTime, b.epssGiven = epss, made, true
	return nil
}

// scoreDate reads `#model_version:v2025.03.14,score_date:2026-01-02T00:00:00+0000`.
func scoreDate(comment string) time.Time {
	_, date, _ := strings.Cut(comment, "score_date:")
	date, _, _ = strings.Cut(strings.TrimSpace(date), ",")
	for _, layout := range []string{"2006-01-02T15:04:05Z0700", time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, date); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// Names of the lists of scores.
const (
	ListKEV  = "KEV"
	ListEPSS = "EPSS"
)

// ScoreTimes are when the lists of scores that the builder was given were made, by their
// names; zero for a list that does not say.
func (b *Builder) ScoreTimes() map[string]time.Time {
	out := map[string]time.Time{}
	if b.kev != nil {
		out[ListKEV] = b.kevTime
	}
	if b.epss != nil {
		out[ListEPSS] = b.epssTime
	}
	return out
}

// FewerScoresError refuses a list of scores that lacks much of what an older snapshot has.
type FewerScoresError struct {
	List      string
	Have, Got int
}

// Error implements error.
func (e *FewerScoresError) Error() string {
	return fmt.Sprintf("the list %s has only %d of the %d vulnerabilities that it had", e.List, e.Got, e.Have)
}

// KeepScores refuses lists that lack more than 5 % of the vulnerabilities in KEV, or 20 %
// of those in EPSS, of an older snapshot, with a FewerScoresError. A vulnerability that was
// known to be exploited and that the catalogue now lacks stays one: CISA takes hardly any
// out, and a list that is cut would clear what it should name. It returns how many stay
// that way. The other error is ErrCorrupt.
func (b *Builder) KeepScores(old *Snapshot) (kept int, err error) {
	if old == nil || b.kev == nil && b.epss == nil {
		return 0, nil
	}
	scores, err := old.Scores()
	if err != nil {
		return 0, err
	}
	var exploited, scored, found int
	var lost []string
	for _, s := range scores {
		if s.KEV {
			if exploited++; !b.kev[s.ID] {
				lost = append(lost, s.ID)
			}
		}
		if s.EPSS > 0 {
			scored++
			if _, ok := b.epss[s.ID]; ok {
				found++
			}
		}
	}
	if b.kev != nil {
		if len(lost)*20 > exploited {
			return 0, &FewerScoresError{List: ListKEV, Have: exploited, Got: exploited - len(lost)}
		}
		for _, id := range lost {
			b.kev[id] = true
		}
		kept = len(lost)
	}
	if b.epss != nil && found*5 < scored*4 {
		return 0, &FewerScoresError{List: ListEPSS, Have: scored, Got: found}
	}
	return kept, nil
}

// Inherit takes from an older snapshot what the builder was not given: scores, and,
// if it was given scores only, the records. The error is ErrCorrupt.
func (b *Builder) Inherit(old *Snapshot) error {
	if old == nil {
		return nil
	}
	recordsToo := len(b.records) == 0 && (b.kev != nil || b.epss != nil)
	if recordsToo {
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
		b.inherit(metaExploited, old.info.ExploitedKnown && (recordsToo || len(kev) > 0))
	}
	if b.epss == nil {
		b.epss = epss
		b.inherit(metaScores, old.info.ScoresKnown && (recordsToo || len(epss) > 0))
	}
	return nil
}

// inherit takes over that an older snapshot knew. With new records that is true of what a
// list said, not of what the old records said themselves.
func (b *Builder) inherit(bit byte, known bool) {
	if known {
		b.inherited |= bit
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
