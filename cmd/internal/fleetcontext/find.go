package fleetcontext

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// EnvFile is the environment variable that names a context file.
const EnvFile = "SEAWORTHY_CONTEXT"

// ErrNoFleet says that no context file was found.
var ErrNoFleet = errors.New("no fleet found")

// Places says where to look for a context file.
type Places struct {
	// Flag is the file the user named; it comes first.
	Flag string
	// Env is the value of EnvFile.
	Env string
	// WorkDir is the directory whose .seaworthy is looked into.
	WorkDir string
	// ConfigDir is the user's configuration directory, whose seaworthy is looked
	// into. Empty if there is none.
	ConfigDir string
}

// DefaultPlaces returns the places of this process. flag may be empty.
func DefaultPlaces(flag string) Places {
	p := Places{Flag: flag, Env: os.Getenv(EnvFile), WorkDir: "."}
	if dir, err := os.UserConfigDir(); err == nil {
		p.ConfigDir = dir
	}
	return p
}

// Found is a context file and who named it.
type Found struct {
	File string
	// By is for people: a flag, a variable, or a place.
	By string
}

// Find returns the context file that the flag names, then the variable, then that of the
// user's configuration directory, then that of the folder. A folder may be somebody
// else's repository, whose context would answer with verdicts of its own: it counts only
// if `seaworthy run` registered it for this user and it is unchanged. The error wraps
// ErrNoFleet if there is none.
func Find(p Places) (Found, error) {
	for _, named := range []Found{{p.Flag, "--context"}, {p.Env, "$" + EnvFile}} {
		if named.File == "" {
			continue
		}
		if _, err := os.Stat(named.File); err != nil {
			return Found{}, fmt.Errorf("%w: the context file of %s: %w", ErrNoFleet, named.By, err)
		}
		return named, nil
	}
	var looked []string
	if p.ConfigDir != "" {
		file := filepath.Join(p.ConfigDir, "seaworthy", FileName)
		if there, err := exists(file); err != nil || there {
			return Found{file, "your configuration directory"}, err
		}
		looked = append(looked, file)
	}
	file := filepath.Join(p.WorkDir, ".seaworthy", FileName)
	there, err := exists(file)
	if err != nil {
		return Found{}, err
	}
	if !there {
		looked = append(looked, file)
		return Found{}, fmt.Errorf("%w: neither --context nor $%s is set, and there is no %s", ErrNoFleet, EnvFile, strings.Join(looked, " and no "))
	}
	ours, err := isRegistered(p.ConfigDir, file)
	switch {
	case err != nil:
		return Found{}, fmt.Errorf("look for a context file: %w", err)
	case !ours:
		return Found{}, fmt.Errorf("%w: %s is not the context of a fleet that you started here with `seaworthy run`, or was changed since; "+
			"if you trust it, name it with --context", ErrNoFleet, file)
	}
	return Found{file, "the fleet that you started in this folder"}, nil
}

func exists(file string) (bool, error) {
	switch _, err := os.Stat(file); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, fmt.Errorf("look for a context file: %w", err)
	}
}
