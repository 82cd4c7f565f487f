// Package ports finds ports for servers that tests start and that are told their
// port: the real ones of others, and fleets whose parts have to know each other's.
package ports

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
)

// The ports lie below those that systems give to outgoing connections (Linux: 32768 to
// 60999): one of those may be taken before the server listens.
const (
	first = 20000
	count = 12000
)

// last is the place of the port that was given last: none is given twice soon.
var last = func() *atomic.Uint32 {
	n := &atomic.Uint32{}
	n.Store(rand.Uint32N(count)) //nolint:gosec // keeps processes apart, guards nothing
	return n
}()

// Free is a port of 127.0.0.1 that nobody listens on.
func Free(tb testing.TB) int {
	tb.Helper()
	for range count {
		port := first + int(last.Add(1)%count)
		l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	tb.Fatal("no port is free")
	return 0
}
