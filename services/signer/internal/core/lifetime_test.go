package core

import (
	"testing"
	"time"
)

func TestInForce_Serves(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a, b := Digest([]byte("a")), Digest([]byte("b"))
	tests := []struct {
		name   string
		force  InForce
		claim  Predicate
		maxAge time.Duration
		want   bool
	}{
		{"the same fact again", InForce{ContentKey: a, Time: at}, Predicate{ContentKey: a, Time: at}, time.Hour, true},
		{"the same findings soon", InForce{ContentKey: a, Time: at}, Predicate{ContentKey: a, Time: at.Add(59 * time.Minute)}, time.Hour, true},
		{"the same findings late", InForce{ContentKey: a, Time: at}, Predicate{ContentKey: a, Time: at.Add(time.Hour)}, time.Hour, false},
		{"the same findings, no limit", InForce{ContentKey: a, Time: at}, Predicate{ContentKey: a, Time: at.Add(1e5 * time.Hour)}, 0, true},
		{"other findings", InForce{ContentKey: b, Time: at}, Predicate{ContentKey: a, Time: at.Add(time.Second)}, time.Hour, false},
		{"other findings at once", InForce{ContentKey: b, Time: at}, Predicate{ContentKey: a, Time: at}, time.Hour, false},
		{"old news", InForce{ContentKey: b, Time: at}, Predicate{ContentKey: a, Time: at.Add(-time.Second)}, time.Hour, true},
		{"revoked", InForce{ContentKey: a, Time: at, Revoked: true}, Predicate{ContentKey: a, Time: at}, 0, false},
		{"of an older release, same", InForce{ContentKey: a, SignTime: at}, Predicate{ContentKey: a, Time: at.Add(-time.Minute)}, time.Hour, true},
		{"of an older release, old", InForce{ContentKey: a, SignTime: at}, Predicate{ContentKey: a, Time: at.Add(2 * time.Hour)}, time.Hour, false},
		{"of an older release, other", InForce{ContentKey: b, SignTime: at}, Predicate{ContentKey: a, Time: at.Add(-time.Minute)}, time.Hour, false},
	}
	for _, tt := range tests {
		if got := tt.force.Serves(tt.claim, tt.maxAge); got != tt.want {
			t.Errorf("%s: Serves() = %v", tt.name, got)
		}
	}
}
