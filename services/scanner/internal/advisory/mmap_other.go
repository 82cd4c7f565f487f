//go:build !unix

package advisory

import "github.com/seaworthy-dev/seaworthy/pkg/regularfile"

// mapFile reads a file where there is no mapping of files.
func mapFile(path string) (data []byte, unmap func(), err error) {
	data, err = regularfile.ReadFile(path)
	return data, func() {}, err
}
