package sigstoretest

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// maxTurn is how long the tests of other packages and work trees are waited for.
const maxTurn = 3 * time.Minute

// takeTurns waits until no other test on this machine holds the lock of a name, and holds
// it until the test ends. The timestamp authority wants it: it serves its metrics on port
// 2112, whatever it is told, and ends if it cannot.
func takeTurns(tb testing.TB, name string) {
	tb.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() }) // which unlocks it
	for end := time.Now().Add(maxTurn); ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			tb.Fatalf("another test holds %s: %v", f.Name(), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
