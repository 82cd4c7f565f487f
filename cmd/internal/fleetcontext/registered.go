package fleetcontext

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

// registeredName is the file, in the user's configuration directory, that lists the
// context files which `seaworthy run` wrote for this user: a line each, the SHA-256 of the
// file and of the TLS files that it names, and its absolute path.
const registeredName = "fleets"

const (
	// maxRegistered lines are kept, the newest.
	maxRegistered = 100
	// maxRegistry is the size in bytes above which the file is not read.
	maxRegistry = 1 << 20
	// maxContext is the size of a context file, and of a file that it names.
	maxContext = 1 << 20
)

// Register notes that this user started the fleet of a context file, so that Find takes
// the file from the folder that it is in. configDir is the user's configuration
// directory.
func Register(configDir, path string) error {
	line, err := registration(path)
	if err != nil {
		return fmt.Errorf("register context: %w", err)
	}
	dir := filepath.Join(configDir, "seaworthy")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("register context: %w", err)
	}
	file := filepath.Join(dir, registeredName)
	before, err := registered(file)
	if err != nil {
		return fmt.Errorf("register context: %w", err)
	}
	_, name, _ := strings.Cut(line, " ")
	kept := slices.DeleteFunc(before, func(l string) bool {
		_, other, _ := strings.Cut(l, " ")
		return other == name
	})
	kept = append(kept, line)
	kept = kept[max(0, len(kept)-maxRegistered):]
	f, err := os.CreateTemp(dir, ".fleets.*") // mode 0600
	if err != nil {
		return fmt.Errorf("register context: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already after the rename
	_, err = f.WriteString(strings.Join(kept, "\n") + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("register context: %w", err)
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return fmt.Errorf("register context: %w", err)
	}
	return nil
}

// isRegistered tells whether a context file is still what `run` wrote for this user.
func isRegistered(configDir, path string) (bool, error) {
	if configDir == "" {
		return false, nil
	}
	lines, err := registered(filepath.Join(configDir, "seaworthy", registeredName))
	if err != nil || len(lines) == 0 {
		return false, err
	}
	line, err := registration(path)
	if err != nil {
		return false, nil //nolint:nilerr // what cannot be read is not what run wrote
	}
	return slices.Contains(lines, line), nil
}

func registered(file string) ([]string, error) {
	content, err := readRegular(file, maxRegistry)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(strings.Split(string(content), "\n"), func(l string) bool { return l == "" }), nil
}

// registration is the line of a context file. A link is resolved: the name is that of
// the file itself. The TLS files count as well: who replaces the certificate authority
// chooses who answers.
func registration(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	if strings.ContainsAny(path, "\n\r") {
		return "", fmt.Errorf("%q has a line break in its name", path)
	}
	c, err := Load(path)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, file := range append([]*string{&path}, c.tlsFiles()...) {
		content, err := readRegular(*file, maxContext)
		if err != nil {
			return "", err
		}
		of := sha256.Sum256(content)
		sum.Write(of[:])
	}
	return hex.EncodeToString(sum.Sum(nil)) + " " + path, nil
}

func readRegular(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, limit)
	}
	f, err := regularfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(f, limit)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
