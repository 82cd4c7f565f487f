package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/fleetcontext"
	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	"github.com/seaworthy-dev/seaworthy/cmd/seaworthyctl/internal/fleet"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

// Exit codes. 1 and 2 are answers, not errors.
const (
	exitOK          = 0
	exitFail        = 1
	exitUnknown     = 2
	exitError       = 3
	exitUsage       = 4
	exitNotFound    = 5
	exitUnavailable = 6
	exitPermission  = 7
)

const exitCodes = `Exit codes:
  0  done; for verdict: PASS
  1  verdict: FAIL; affected: no image is
  2  verdict: UNKNOWN
  3  another error
  4  wrong usage
  5  not found
  6  the fleet, the registry or the event bus does not answer, or not in time
  7  not permitted`

// actionError is an error of a command that was used rightly.
type actionError struct {
	command string
	err     error
}

func (e *actionError) Error() string { return e.err.Error() }
func (e *actionError) Unwrap() error { return e.err }

// answerError ends a command with a code that is its answer; what there is to say
// was printed.
type answerError struct{ code int }

func (e *answerError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// usageError is a mistake in the arguments that a command finds itself.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// end reports err to the user and returns the exit code.
func (s *session) end(err error) int {
	if err == nil {
		return exitOK
	}
	if answer, ok := errors.AsType[*answerError](err); ok {
		return answer.code
	}
	action, ok := errors.AsType[*actionError](err)
	if !ok { // cobra's: flags, arguments, unknown commands
		s.notef("error: %s\nnext:  seaworthyctl --help lists the commands, and --help after one of them its flags", err)
		return exitUsage
	}
	s.note("error: " + told(err))
	if next := s.next(action); next != "" {
		s.notef("next:  %s", next)
	}
	return exitCode(err)
}

// told is the text of an error, and of the other fields that it refuses. Its lines stay
// lines, because carets point into the one above, and are indented so that none is taken
// for one of ours.
func told(err error) string {
	lines := strings.Split(err.Error(), "\n")
	if api, ok := errors.AsType[*apierr.Error](err); ok && len(api.Violations()) > 1 {
		for _, v := range api.Violations()[1:] {
			lines = append(lines, strings.Split(v.Field+": "+v.Description, "\n")...)
		}
	}
	for i := range lines {
		lines[i] = output.Clean(lines[i])
	}
	return strings.Join(lines, "\n       ")
}

func exitCode(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if api, ok := errors.AsType[*apierr.Error](err); ok {
		return exitOf(api.Code())
	}
	switch {
	case errors.Is(err, registry.ErrNotFound), errors.Is(err, eventbus.ErrNotFound):
		return exitNotFound
	case errors.Is(err, registry.ErrUnauthorized), errors.Is(err, eventbus.ErrNotAllowed), errors.Is(err, fleet.ErrNotOperator):
		return exitPermission
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, registry.ErrUnavailable),
		errors.Is(err, eventbus.ErrUnavailable), errors.Is(err, fleetcontext.ErrNoFleet):
		return exitUnavailable
	default:
		return exitError
	}
}

func exitOf(c codes.Code) int {
	switch c {
	case codes.InvalidArgument:
		return exitUsage
	case codes.NotFound:
		return exitNotFound
	case codes.Unavailable, codes.DeadlineExceeded:
		return exitUnavailable
	case codes.PermissionDenied, codes.Unauthenticated:
		return exitPermission
	default:
		return exitError
	}
}

// next is what the user can do about the error; empty if that is plain.
func (s *session) next(e *actionError) string {
	if api, ok := errors.AsType[*apierr.Error](e.err); ok {
		if hint := s.nextOf(api); hint != "" {
			return hint
		}
	}
	switch {
	case errors.Is(e.err, fleetcontext.ErrNoFleet):
		return "run `make run` to start a fleet here, or name the context file of another with --context FILE or $" + fleetcontext.EnvFile
	case errors.Is(e.err, fleet.ErrNoAddress):
		return "add the address to the context file " + s.fleet.File
	case errors.Is(e.err, fleet.ErrNotOperator):
		return "use a context with an operator's certificate; `seaworthyctl certs init` makes one"
	}
	switch exitCode(e) {
	case exitUsage:
		return e.command + " --help shows an example"
	case exitUnavailable:
		return s.nextUnavailable()
	default:
		return ""
	}
}

func (s *session) nextOf(api *apierr.Error) string {
	switch api.Reason() {
	case "SCAN_NOT_FOUND":
		return "scan the image first: seaworthyctl scan IMAGE --wait"
	case "NO_SNAPSHOT", "NO_ADVISORIES":
		return "import advisories in the OSV format: seaworthyctl advisories import PATH…"
	case "ADVISORY_NOT_FOUND":
		return "seaworthyctl advisories status shows which advisories are in use; a package can be asked for by its purl"
	case "VERDICT_NOT_JUDGED":
		return "seaworthyctl verdict history IMAGE shows why no policy was evaluated"
	case "ETAG_MISMATCH":
		return "somebody changed it meanwhile: seaworthyctl policy diff FILE shows what is in force now"
	case "POLICIES_CHANGED":
		return "run the command again"
	case "POLICY_FROM_FILE":
		return "change it in the files that the verifier's configuration names under policies; they are read again by themselves"
	case "EXCEPTION_EXISTS":
		return "choose another name, or delete the other one first: seaworthyctl exception delete NAME"
	case "EXCEPTION_FROM_FILE":
		return "take it out of the files that the verifier's configuration names under exceptions, and restart the verifier"
	case "NO_FEEDS":
		return "add feeds to the scanner's configuration, key advisories.feeds, or import files: seaworthyctl advisories import PATH…"
	case "NO_TRUSTED_KEYS":
		return "name the public key of whoever signs the bundles in the scanner's configuration, key advisories.trusted_keys, and restart it"
	case "BUNDLE_UNTRUSTED":
		return "compare the key that signed the bundle with those in the scanner's configuration, key advisories.trusted_keys"
	case "SNAPSHOT_OLDER":
		return "use a newer bundle; if the older one is meant, add --force"
	case "SCORES_OLDER":
		return "use a newer list; if the older one is meant, add --force"
	case "SCORES_TOO_FEW":
		return "check that the list of exploited vulnerabilities or scores is complete; if it is meant to be smaller, add --force"
	case "SNAPSHOT_TOO_SMALL":
		return "check that the import is complete; if it is meant to be smaller, add --force"
	case "REGISTRY_NOT_ALLOWED":
		return "add the registry to the scanner's configuration, key registry.registries"
	}
	if exitOf(api.Code()) == exitPermission && s.fleet != nil {
		return fmt.Sprintf("you are %s by the context file %s; use one with another certificate", s.fleet.ID(), s.fleet.File)
	}
	return ""
}

func (s *session) nextUnavailable() string {
	if s.fleet == nil {
		return ""
	}
	return fmt.Sprintf("is the fleet running? `make run` starts one; the addresses come from %s, and --timeout gives it more time", s.fleet.File)
}
