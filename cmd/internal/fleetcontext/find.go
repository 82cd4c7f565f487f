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

// Find returns the first context file there is. A file that was named by flag
// or variable must exist; nothing else is looked for then. If there is none at
// all, the error wraps ErrNoFleet and names every place.
func Find(p Places) (string, error) {
	for _, named := range []struct{ path, by string }{{p.Flag, "--context"}, {p.Env, EnvFile}} {
		if named.path == "" {
			continue
		}
		if _, err := os.Stat(named.path); err != nil {
			return "", fmt.Errorf("%w: the context file of %s: %w", ErrNoFleet, named.by, err)
		}
		return named.path, nil
	}
	looked := []string{filepath.Join(p.WorkDir, ".seaworthy", FileName)}
	if p.ConfigDir != "" {
		looked = append(looked, filepath.Join(p.ConfigDir, "seaworthy", FileName))
	}
	for _, path := range looked {
		switch _, err := os.Stat(path); {
		case err == nil:
			return path, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("look for a context file: %w", err)
		}
	}
	return "", fmt.Errorf("%w: neither --context nor %s is set, and there is no %s", ErrNoFleet, EnvFile, strings.Join(looked, " and no "))
}
