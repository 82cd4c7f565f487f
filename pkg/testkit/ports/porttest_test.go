package ports_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/seaworthy-dev/seaworthy/pkg/testkit/ports"
)

func TestFree(t *testing.T) {
	seen := map[int]bool{}
	for range 100 {
		port := ports.Free(t)
		if seen[port] || port < 20000 || port >= 32000 {
			t.Errorf("port %d, again: %v", port, seen[port])
		}
		seen[port] = true
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			t.Error(err)
			continue
		}
		defer l.Close()
	}
}
