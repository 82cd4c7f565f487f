package oneshot

import (
	"fmt"
	"os"

	"github.com/seaworthy-dev/seaworthy/pkg/osvfiles"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/snapshots"
)

// Advisories opens a snapshot file, or builds a snapshot of the OSV records, the KEV
// catalogue and the EPSS scores in files, archives and directories. It returns the
// first records that could not be used, in words.
func Advisories(paths []string, maxRecords int) (snapshot *advisory.Snapshot, rejected []string, err error) {
	if info, serr := os.Stat(paths[0]); len(paths) == 1 && serr == nil && info.Mode().IsRegular() && !osvfiles.Recognizes(paths[0]) {
		snapshot, err = advisory.Open(paths[0], "")
		return snapshot, nil, err
	}
	b := advisory.NewBuilder(maxRecords)
	for r, err := range osvfiles.Records(paths) {
		switch {
		case err != nil:
			return nil, nil, err
		case r.Err != nil:
			return nil, nil, fmt.Errorf("%s: %w", r.Name, r.Err)
		}
		if err := snapshots.Add(b, r); err != nil {
			return nil, nil, err
		}
	}
	s, err := b.Build()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range b.Rejected() {
		rejected = append(rejected, r.Name+": "+r.Message)
	}
	return s, rejected, nil
}
