package snapshots

import (
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/osvfiles"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/advisory"
)

// AddFiles gives a builder the records, the KEV catalogue and the scores in files,
// archives and directories. A record that cannot be used is counted and listed; what
// cannot be read at all is an error.
func AddFiles(b *advisory.Builder, paths ...string) error {
	for r, err := range osvfiles.Records(paths) {
		switch {
		case err != nil:
			return err
		case r.Err != nil:
			b.Reject(r.Name, r.Err)
		default:
			if err := Add(b, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// Add gives a builder what was read: a record, the KEV catalogue or the scores.
func Add(b *advisory.Builder, r osvfiles.Record) error {
	var err error
	switch {
	case r.CSV != nil:
		err = b.SetEPSS(r.CSV)
	case advisory.IsKEV(r.JSON):
		err = b.SetKEV(r.JSON)
	default:
		err = b.Add(r.Name, r.JSON)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.Name, err)
	}
	return nil
}
