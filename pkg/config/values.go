package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

// Bytes is a size. In YAML it is a whole number of bytes, or text with a unit:
// KiB, MiB, GiB, TiB (powers of 1024) or kB, MB, GB, TB (powers of 1000).
// Never negative.
type Bytes int64

var units = []struct {
	suffix string
	size   int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// ParseBytes reads the text form of a size.
func ParseBytes(s string) (Bytes, error) {
	number, size := strings.TrimSpace(s), int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, size = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size such as 4096, 64KiB or 16MiB", s)
	}
	if n > math.MaxInt64/size {
		return 0, fmt.Errorf("size %q is too large", s)
	}
	return Bytes(n * size), nil
}

// UnmarshalYAML reads a size.
func (b *Bytes) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: a size is a number or text such as 16MiB", n.Line)
	}
	v, err := ParseBytes(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	*b = v
	return nil
}

// String is the shortest exact text form.
func (b Bytes) String() string {
	for i := 3; i >= 0; i-- {
		if u := units[i]; b != 0 && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MaxSecretFile bounds the file behind a Secret, in bytes.
const MaxSecretFile = 64 << 10

// Secret is a password, token or key that is either in the configuration
// itself or, better, in a file or an environment variable that it names.
// At most one field is set. Printing or logging a Secret never shows a value.
type Secret struct {
	// Value is the secret itself.
	Value string `yaml:"value"`
	// File is a path; the content without trailing line breaks is the secret.
	File string `yaml:"file"`
	// Env is the name of an environment variable.
	Env string `yaml:"env"`
}

// IsZero reports that no secret is configured.
func (s Secret) IsZero() bool { return s == Secret{} }

// Resolve returns the secret; "" without error if none is configured. Files
// and variables are read at each call, so that a rotated secret is seen. A
// missing or empty source is an error, and so is more than one.
func (s Secret) Resolve() (string, error) {
	if err := s.check(); err != nil {
		return "", err
	}
	switch {
	case s.File != "":
		return readSecret(s.File)
	case s.Env != "":
		v, ok := os.LookupEnv(s.Env)
		if !ok || v == "" {
			return "", fmt.Errorf("secret: environment variable %s is not set", s.Env)
		}
		return v, nil
	default:
		return s.Value, nil
	}
}

func readSecret(path string) (string, error) {
	f, err := regularfile.Open(path)
	if err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSecretFile+1))
	if err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	if len(data) > MaxSecretFile {
		return "", fmt.Errorf("secret: file %s has more than %d bytes", path, MaxSecretFile)
	}
	v := strings.TrimRight(string(data), "\r\n")
	if v == "" {
		return "", fmt.Errorf("secret: file %s is empty", path)
	}
	return v, nil
}

func (s Secret) check() error {
	n := 0
	for _, part := range []string{s.Value, s.File, s.Env} {
		if part != "" {
			n++
		}
	}
	if n > 1 {
		return errors.New("give exactly one of value, file, env")
	}
	return nil
}

// redacted stands for a secret that was given by value.
const redacted = "[redacted]"

// String says where the secret is, never what it is.
func (s Secret) String() string {
	switch {
	case s.File != "":
		return "file:" + s.File
	case s.Env != "":
		return "env:" + s.Env
	case s.Value != "":
		return redacted
	default:
		return ""
	}
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return "config.Secret(" + s.String() + ")" }

// LogValue is String, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String, for encoders that would walk the fields.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML is String, for the yaml package.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// checkSecrets finds, anywhere in the configuration, secrets with two sources.
func checkSecrets(v reflect.Value, path string) []error {
	var errs []error
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			errs = checkSecrets(v.Elem(), path)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			errs = append(errs, checkSecrets(v.Index(i), fmt.Sprintf("%s[%d]", path, i))...)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			errs = append(errs, checkSecrets(v.MapIndex(k), join(path, fmt.Sprint(k)))...)
		}
	case reflect.Struct:
		if v.Type() == secretType {
			if err := v.Interface().(Secret).check(); err != nil {
				return []error{fmt.Errorf("%s: %w", path, err)}
			}
			return nil
		}
		for i := range v.NumField() {
			name, inline, ok := yamlName(v.Type().Field(i))
			if !ok {
				continue
			}
			sub := path
			if !inline {
				sub = join(path, name)
			}
			errs = append(errs, checkSecrets(v.Field(i), sub)...)
		}
	default:
	}
	return errs
}
