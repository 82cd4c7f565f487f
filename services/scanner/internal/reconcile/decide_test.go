package reconcile

import (
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

func TestMissing(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	scan := func(digest string, state store.State, age time.Duration) *store.TagScan {
		return &store.TagScan{ID: "s", Digest: digest, State: state, CreateTime: now.Add(-age)}
	}
	for name, tt := range map[string]struct {
		scan *store.TagScan
		gone bool
		want bool
	}{
		"never scanned":              {nil, false, true},
		"scanned":                    {scan("d", store.Succeeded, time.Hour), false, false},
		"failed":                     {scan("d", store.Failed, time.Hour), false, false},
		"on its way":                 {scan("d", store.Running, time.Minute), false, false},
		"queued":                     {scan("d", store.Queued, time.Minute), false, false},
		"lost on its way":            {scan("d", store.Running, stuckAfter), false, true},
		"not resolved yet":           {scan("", store.Queued, time.Minute), false, false},
		"never resolved":             {scan("", store.Queued, stuckAfter), false, true},
		"moved":                      {scan("other", store.Succeeded, time.Hour), false, true},
		"moved, the other failed":    {scan("other", store.Failed, time.Hour), false, true},
		"moved, the other is queued": {scan("other", store.Queued, time.Minute), false, true},
		"came back":                  {scan("d", store.Succeeded, time.Hour), true, true},
	} {
		if got := missing("d", tt.scan, tt.gone, now); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestJudgeAbsence(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ago := func(d time.Duration) *store.Absence { return &store.Absence{First: now.Add(-d)} }
	few, many := run{alive: true, checked: 20, absent: 1}, run{alive: true, checked: 20, absent: 11}
	for name, tt := range map[string]struct {
		known *store.Absence
		run   run
		want  verdict
	}{
		"registry not well":               {ago(48 * time.Hour), run{checked: 20, absent: 20}, ignore},
		"first time":                      {nil, few, remember},
		"too soon":                        {ago(time.Minute), few, hold},
		"confirmed":                       {ago(10 * time.Minute), few, tell},
		"the only image":                  {ago(10 * time.Minute), run{alive: true, checked: 1, absent: 1}, tell},
		"told":                            {&store.Absence{First: now.Add(-time.Hour), Told: now.Add(-time.Minute)}, few, ignore},
		"most of the registry":            {ago(time.Hour), many, hold},
		"most of the registry for a day":  {ago(24 * time.Hour), many, tell},
		"half of the registry":            {ago(time.Hour), run{alive: true, checked: 20, absent: 10}, tell},
		"most of few":                     {ago(time.Hour), run{alive: true, checked: 9, absent: 9}, tell},
		"first time of many is not told":  {nil, many, remember},
		"first time while it is not well": {nil, run{checked: 1, absent: 1}, ignore},
	} {
		if got := judgeAbsence(tt.known, tt.run, 10*time.Minute, now); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
