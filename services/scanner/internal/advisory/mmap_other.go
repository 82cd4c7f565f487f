//go:build !unix

package advisory

import "os"

// mapFile reads a file where there is no mapping of files.
func mapFile(path string) (data []byte, unmap func(), err error) {
	data, err = os.ReadFile(path)
	return data, func() {}, err
}
