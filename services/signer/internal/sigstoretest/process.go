package sigstoretest

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/testkit/output"
)

// startup is how long a server may take on a busy machine.
const startup = time.Minute

// Process is a server's.
type Process struct {
	tb  testing.TB
	cmd *exec.Cmd
}

// Freeze stops the server in the middle of whatever it does: connections are
// accepted and nothing answers.
func (p *Process) Freeze() { p.signal(syscall.SIGSTOP) }

// Thaw has it go on.
func (p *Process) Thaw() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(s os.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.tb.Fatal(err)
	}
}

func run(tb testing.TB, program string, args ...string) *Process {
	tb.Helper()
	cmd := exec.Command(program, args...) //nolint:gosec,noctx // ended below
	said := &output.Buffer{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill() // a frozen one too
		_ = cmd.Wait()
		if tb.Failed() {
			text := said.String()
			tb.Logf("%s said:\n%s", program, text[max(0, len(text)-4096):])
		}
	})
	return &Process{tb: tb, cmd: cmd}
}

// await asks until a server answers.
func await(tb testing.TB, url string) []byte {
	tb.Helper()
	for end := time.Now().Add(startup); ; {
		raw, err := get(url)
		if err == nil {
			return raw
		}
		if time.Now().After(end) {
			tb.Fatalf("%s does not answer: %v", url, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
