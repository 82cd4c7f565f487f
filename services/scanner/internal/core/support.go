package core

import (
	_ "embed" // support.tsv
	"strings"
	"sync"
	"time"
)

//go:embed support.tsv
var supportTable string

var supportEnds = sync.OnceValue(func() map[Distro]time.Time {
	out := map[Distro]time.Time{}
	for line := range strings.Lines(supportTable) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) != 3 {
			continue
		}
		day, err := time.Parse(time.DateOnly, fields[2])
		if err != nil {
			continue
		}
		out[Distro{ID: fields[0], Version: fields[1]}] = day
	}
	return out
})

// SupportEnd is the end of the last day that security fixes of a distribution's
// version are free to all, or the zero time if that is not known. It is the same for
// every time that it is asked.
func SupportEnd(d Distro) time.Time {
	for {
		if day, ok := supportEnds()[d]; ok {
			return day.AddDate(0, 0, 1)
		}
		point := strings.LastIndexByte(d.Version, '.')
		if point < 0 {
			return time.Time{}
		}
		d.Version = d.Version[:point]
	}
}
