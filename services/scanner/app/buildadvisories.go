package app

import (
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/oneshot"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

// BuildAdvisories writes the snapshot of OSV records in files, archives and
// directories to a file, for ScanOnce to open. The same records give the same file.
// It returns the first records that could not be used, in words.
func BuildAdvisories(paths []string, file string) (info *scannerv1.SnapshotInfo, rejected []string, err error) {
	s, rejected, err := oneshot.Advisories(paths, Default().Advisories.MaxRecords)
	if err != nil {
		return nil, nil, err
	}
	if err := s.WriteFile(file); err != nil {
		return nil, nil, err
	}
	return wire.SnapshotWithCoverage(s.Info()), rejected, nil
}
