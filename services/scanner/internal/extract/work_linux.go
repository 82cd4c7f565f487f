package extract

import (
	"syscall"
	"time"
)

// rusageThread asks for the time of the thread alone.
const rusageThread = 1

// threadTime is how long the processor was busy with this thread.
func threadTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
