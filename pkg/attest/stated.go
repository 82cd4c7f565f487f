package attest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// ClockSkew is how far the clocks of the fleet and of those it trusts may be apart.
// What is dated later than that from now is no evidence.
const ClockSkew = 5 * time.Minute

// StatedTime is when the content of a statement was found to be true, as the
// statement itself says, and thus as its signer does: the end of a scan, the
// evaluation of a verdict, the timestamp of a VEX document. It is zero for types
// without such a time; an SBOM's time of creation is that of the document's
// subject more often than not.
//
// A statement is signed at or after that time: with a plain key nothing else
// about the time of signing can be known.
func StatedTime(st Statement) time.Time {
	t, err := timesOf(st)
	if err != nil {
		return time.Time{}
	}
	return t.stated
}

func statesTime(predicateType string) bool {
	switch predicateType {
	case PredicateCosignVuln, PredicateVulnsV02, PredicateVSA, PredicateOpenVEX:
		return true
	default:
		return false
	}
}

// CheckTime is ErrFuture for a statement that would be dated in the future at a time:
// no reader would believe it.
func CheckTime(st Statement, now time.Time) error {
	t, err := timesOf(st)
	if err != nil {
		return err
	}
	return t.check(time.Time{}, now)
}

// statementTimes are the times in a statement.
type statementTimes struct {
	// stated is StatedTime.
	stated time.Time
	// dated is the document's own time: stated, or when an SBOM or a provenance was made.
	dated time.Time
	// latest is the latest time in it of something that was done.
	latest time.Time
}

// check is ErrFuture if something in the statement was done after now, or after the
// proven time of the signature, which is zero if there is none.
func (t statementTimes) check(proven, now time.Time) error {
	if t.latest.After(now.Add(ClockSkew)) {
		return fmt.Errorf("%w: it says %s, it is %s", ErrFuture, rfc3339(t.latest), rfc3339(now))
	}
	if proven.After(now.Add(ClockSkew)) {
		return fmt.Errorf("%w: the signature is of %s, it is %s", ErrFuture, rfc3339(proven), rfc3339(now))
	}
	if !proven.IsZero() && t.latest.After(proven.Add(ClockSkew)) {
		return fmt.Errorf("%w: it says %s and was signed before, at %s", ErrFuture, rfc3339(t.latest), rfc3339(proven))
	}
	return nil
}

// order is Verified.Time.
func (t statementTimes) order(proven time.Time) time.Time {
	if t.dated.IsZero() || !proven.IsZero() && t.dated.After(proven) {
		return proven
	}
	return t.dated
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// timeText is a time in JSON. What is no time is remembered and fails nothing yet.
type timeText struct {
	time time.Time
	bad  string
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *timeText) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		t.bad = fmt.Sprintf("%.100s", raw)
		return nil //nolint:nilerr // for timesOf to judge
	}
	if text == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.bad = fmt.Sprintf("%.100q", text)
		return nil //nolint:nilerr // for timesOf to judge
	}
	t.time = at.UTC()
	return nil
}

// predicateTimes are the times of all predicate types that are known.
type predicateTimes struct {
	Scanner struct {
		DB struct {
			LastUpdate timeText `json:"lastUpdate"`
		} `json:"db"`
	} `json:"scanner"`
	Metadata struct {
		ScanStartedOn   timeText `json:"scanStartedOn"`
		ScanFinishedOn  timeText `json:"scanFinishedOn"`
		BuildStartedOn  timeText `json:"buildStartedOn"`
		BuildFinishedOn timeText `json:"buildFinishedOn"`
		Timestamp       timeText `json:"timestamp"`
	} `json:"metadata"`
	TimeVerified timeText `json:"timeVerified"`
	Timestamp    timeText `json:"timestamp"`
	LastUpdated  timeText `json:"last_updated"`
	Statements   []struct {
		Timestamp   timeText `json:"timestamp"`
		LastUpdated timeText `json:"last_updated"`
	} `json:"statements"`
	CreationInfo struct {
		Created timeText `json:"created"`
	} `json:"creationInfo"`
	RunDetails struct {
		Metadata struct {
			StartedOn  timeText `json:"startedOn"`
			FinishedOn timeText `json:"finishedOn"`
		} `json:"metadata"`
	} `json:"runDetails"`
}

// timesOf reads the times of a statement. A time that cannot be read is ErrMalformed
// in a type whose statements are ordered by it, and no time in others.
func timesOf(st Statement) (statementTimes, error) {
	var (
		p        predicateTimes
		out      statementTimes
		readable = true
	)
	if st.Predicate == nil {
		return out, nil
	}
	use := func(t timeText) time.Time {
		readable = readable && t.bad == ""
		if t.time.After(out.latest) {
			out.latest = t.time
		}
		return t.time
	}
	parsed := func() error {
		if err := strictjson.Unmarshal(st.Predicate, &p); err != nil && statesTime(st.PredicateType) {
			return malformed("predicate", err)
		}
		return nil
	}
	switch st.PredicateType {
	case PredicateCosignVuln, PredicateVulnsV02:
		if err := parsed(); err != nil {
			return out, err
		}
		use(p.Metadata.ScanStartedOn)
		out.dated = use(p.Metadata.ScanFinishedOn)
	case PredicateVSA:
		if err := parsed(); err != nil {
			return out, err
		}
		out.dated = use(p.TimeVerified)
	case PredicateOpenVEX:
		if err := parsed(); err != nil {
			return out, err
		}
		out.dated = use(p.Timestamp)
		use(p.LastUpdated)
		for _, s := range p.Statements {
			use(s.Timestamp)
			use(s.LastUpdated)
		}
	case PredicateSPDX:
		_ = parsed()
		out.dated = use(p.CreationInfo.Created)
	case PredicateCycloneDX:
		_ = parsed()
		out.dated = use(p.Metadata.Timestamp)
	case PredicateSLSAProvenance:
		_ = parsed()
		use(p.RunDetails.Metadata.StartedOn)
		out.dated = use(p.RunDetails.Metadata.FinishedOn)
	case PredicateSLSAProvenanceV02:
		_ = parsed()
		use(p.Metadata.BuildStartedOn)
		out.dated = use(p.Metadata.BuildFinishedOn)
	}
	if statesTime(st.PredicateType) {
		if !readable {
			return statementTimes{}, malformed("a time of the predicate is not RFC 3339", nil)
		}
		out.stated = out.dated
	}
	return out, nil
}
