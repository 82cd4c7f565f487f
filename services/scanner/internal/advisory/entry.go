package advisory

import "github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"

// packageEntry is an entry of a package's block: what one record says. Its parts are
// read when they are asked for.
type packageEntry struct {
	versions *versions
	record   int
	severity core.Severity
	score    float64
	vector   []byte
	stream   []byte
	ranges   []byte // as they lie in the block
	list     []byte
}

// readEntries goes through a package's block.
func readEntries(b []byte, each func(*packageEntry) error) error {
	r := reader{b: b}
	v := readVersions(&r)
	return readEntriesOf(&r, &v, each)
}

func readEntriesOf(r *reader, v *versions, each func(*packageEntry) error) error {
	e := packageEntry{versions: v}
	for n := r.count(); n > 0 && !r.bad; n-- {
		e.record = r.uint()
		flags := r.byte()
		e.severity = core.Severity(r.byte())
		e.score, e.vector, e.stream = 0, nil, nil
		if flags&entryScored != 0 {
			e.score, e.vector = r.f64(), r.bytes()
		}
		if flags&entryStream != 0 {
			e.stream = r.bytes()
		}
		before := r.b
		for ranges := r.count(); ranges > 0; ranges-- {
			for events := r.count(); events > 0; events-- {
				r.uint()
			}
		}
		e.ranges = before[:len(before)-len(r.b)]
		e.list = r.bytes()
		if r.bad {
			break
		}
		if err := each(&e); err != nil {
			return err
		}
	}
	if r.bad || len(r.b) > 0 {
		return corrupt("block of a package")
	}
	return nil
}

// affectedEntry is the entry as a record has it.
func (e *packageEntry) affectedEntry(ecosystem, name string) (Affected, error) {
	a := Affected{
		Ecosystem: ecosystem, Name: name, Severity: e.severity,
		Score: e.score, Vector: string(e.vector), Stream: string(e.stream),
	}
	r := reader{b: e.ranges}
	for n := r.count(); n > 0; n-- {
		var events []Event
		for m := r.count(); m > 0; m-- {
			kind, version := e.event(&r)
			if version == nil && kind != eventAlways {
				return a, corrupt("event of %s", name)
			}
			events = append(events, newEvent(kind, string(version)))
		}
		a.Ranges = append(a.Ranges, events)
	}
	at := 0
	for l := (reader{b: e.list}); len(l.b) > 0; {
		at += l.uint()
		v := e.versions.at(at)
		if v == nil || l.bad {
			return a, corrupt("versions of %s", name)
		}
		a.Versions = append(a.Versions, string(v))
	}
	return a, nil
}

func (e *packageEntry) event(r *reader) (kind int, version []byte) {
	code := r.uint()
	kind = code % eventKinds
	if kind == eventAlways {
		return kind, nil
	}
	return kind, e.versions.at(code / eventKinds)
}

// listed tells whether a version at the place is in the list of versions.
func (e *packageEntry) listed(places ...place) bool {
	at := 0
	for l := (reader{b: e.list}); len(l.b) > 0; {
		at += l.uint()
		for _, p := range places {
			if at >= p.low && at < p.high {
				return true
			}
		}
	}
	return false
}

// evaluate is the algorithm of the OSV schema for one version: a range's events are
// in the order of versions, so each turns what the ones before said. fixed are the
// versions that end the intervals that it is in.
func (e *packageEntry) evaluate(p place) (affected bool, fixed []string, err error) {
	r := reader{b: e.ranges}
	for n := r.count(); n > 0; n-- {
		in, limited, below := false, false, false
		var next []byte // what ends the interval that the version is in
		for m := r.count(); m > 0; m-- {
			code := r.uint()
			kind, number := code%eventKinds, code/eventKinds
			if kind == eventAlways {
				in = true
				continue
			}
			if number >= e.versions.ordered {
				return false, nil, corrupt("an event without a version")
			}
			c := p.compare(number)
			switch kind {
			case eventIntroduced:
				in = in || c >= 0
			case eventFixed:
				if c >= 0 {
					in = false
				} else if next == nil {
					next = e.versions.at(number)
				}
			case eventLastAffected:
				in = in && c <= 0
			case eventLimit:
				limited, below = true, below || c < 0
			}
		}
		if in && (!limited || below) {
			affected = true
			if next != nil {
				fixed = append(fixed, string(next))
			}
		}
	}
	return affected, fixed, nil
}

// laterFixes are the fixed versions above the place.
func (e *packageEntry) laterFixes(p place) []string {
	var out []string
	r := reader{b: e.ranges}
	for n := r.count(); n > 0; n-- {
		for m := r.count(); m > 0; m-- {
			code := r.uint()
			if number := code / eventKinds; code%eventKinds == eventFixed && number < e.versions.ordered && p.compare(number) < 0 {
				out = append(out, string(e.versions.at(number)))
			}
		}
	}
	return out
}
