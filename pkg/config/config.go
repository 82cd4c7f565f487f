// Package config loads a service's configuration strictly, from four layers of
// rising strength: the defaults already in the struct, a YAML file,
// environment variables, and --set flags.
//
// The struct's yaml tags are the one source of names. The key
//
//	server:
//	  listen: 127.0.0.1:9101
//
// is server.listen for --set, and with the prefix SEAWORTHY_SCANNER it is the
// variable SEAWORTHY_SCANNER_SERVER_LISTEN. A name that no field has is an
// error in every layer, with the nearest name that exists; a typing error must
// never leave a service running on a default that its operator believes to
// have changed. All mistakes are reported at once.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
)

// MaxFile bounds a configuration file, in bytes.
const MaxFile = 1 << 20

// Options says where the layers come from. Every field is optional.
type Options struct {
	// File is the path of the YAML file; "" = none. One document, at most MaxFile bytes.
	File string
	// EnvPrefix is, without the underscore that follows it, how the variables
	// start, for example "SEAWORTHY_SCANNER"; "" = variables are not looked at.
	EnvPrefix string
	// Environ holds "NAME=value" pairs as os.Environ returns them; nil = none.
	Environ []string
	// Set holds "key.path=value" pairs, the later ones win.
	Set []string
}

// Load fills cfg, a pointer to a struct that holds the defaults. On error cfg
// may be partly filled and must not be used. The error joins every mistake
// found; each names its file and line, its variable, or its flag.
func Load(cfg any, o Options) error {
	v := reflect.ValueOf(cfg)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("config: Load needs a pointer to a struct, not %T", cfg)
	}
	if o.File != "" {
		if err := loadFile(cfg, o.File); err != nil {
			return err
		}
	}
	keys := leaves(v.Elem())
	var errs []error
	if o.EnvPrefix != "" {
		errs = append(errs, applyEnv(keys, o.EnvPrefix, o.Environ)...)
	}
	errs = append(errs, applySet(keys, o.Set)...)
	errs = append(errs, checkSecrets(v.Elem(), "")...)
	return errors.Join(errs...)
}

func loadFile(cfg any, path string) error {
	f, err := regularfile.Open(path)
	if err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return fmt.Errorf("config file %s: %w", path, err)
	}
	if len(data) > MaxFile {
		return fmt.Errorf("config file %s has more than %d bytes", path, MaxFile)
	}
	return decodeDocument(cfg, path, data)
}

// decodeDocument decodes exactly one YAML document with known fields only.
func decodeDocument(cfg any, path string, data []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	switch err := dec.Decode(cfg); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return explain(reflect.TypeOf(cfg).Elem(), path, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("config file %s holds more than one YAML document", path)
	}
	return nil
}

func applyEnv(keys []leaf, prefix string, environ []string) []error {
	byName := make(map[string]leaf, len(keys))
	names := make([]string, 0, len(keys))
	var errs []error
	for _, k := range keys {
		name := EnvName(prefix, k.path)
		if other, ok := byName[name]; ok {
			errs = append(errs, fmt.Errorf("keys %s and %s share the variable %s", other.path, k.path, name))
			continue
		}
		byName[name] = k
		names = append(names, name)
	}
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || !strings.HasPrefix(name, prefix+"_") {
			continue
		}
		k, known := byName[name]
		if !known {
			if !fromKubernetes(name, prefix, value) {
				errs = append(errs, fmt.Errorf("environment variable %s belongs to no key%s", name, didYouMean(name, names)))
			}
			continue
		}
		if err := k.set(value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
		}
	}
	return errs
}

// EnvName is the variable of a key: "server.listen" with the prefix
// "SEAWORTHY_SCANNER" is SEAWORTHY_SCANNER_SERVER_LISTEN.
func EnvName(prefix, path string) string {
	return prefix + "_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(path))
}

// fromKubernetes recognises the variables that Kubernetes puts into every pod
// for a Service object called, say, seaworthy-scanner: they share our prefix
// and nobody wrote them.
func fromKubernetes(name, prefix, value string) bool {
	rest := strings.TrimPrefix(name, prefix+"_")
	return rest == "SERVICE_HOST" || rest == "SERVICE_PORT" || strings.HasPrefix(rest, "SERVICE_PORT_") ||
		rest == "PORT" && strings.Contains(value, "://") ||
		strings.HasPrefix(rest, "PORT_") && (strings.Contains(rest, "_TCP") || strings.Contains(rest, "_UDP"))
}

func applySet(keys []leaf, set []string) []error {
	byPath := make(map[string]leaf, len(keys))
	paths := make([]string, 0, len(keys))
	for _, k := range keys {
		byPath[k.path] = k
		paths = append(paths, k.path)
	}
	var errs []error
	for _, kv := range set {
		path, value, ok := strings.Cut(kv, "=")
		if !ok {
			errs = append(errs, fmt.Errorf("--set %s: want key.path=value", kv))
			continue
		}
		k, known := byPath[path]
		if !known {
			errs = append(errs, fmt.Errorf("--set %s: no such key%s", path, didYouMean(path, paths)))
			continue
		}
		if err := k.set(value); err != nil {
			errs = append(errs, fmt.Errorf("--set %s: %w", path, err))
		}
	}
	return errs
}

// Key describes one key for people.
type Key struct {
	// Path is its name for --set and, nested, in YAML.
	Path string
	// Default is the value that cfg holds, as YAML text; "" if it is empty.
	Default string
}

// Describe lists every key of cfg (a pointer to a struct) with the value it
// holds now. Secrets given by value are redacted.
func Describe(cfg any) []Key {
	var keys []Key
	for _, l := range leaves(reflect.ValueOf(cfg).Elem()) {
		k := Key{Path: l.path}
		switch {
		case l.value.IsZero():
		case l.secretValue:
			k.Default = redacted
		default:
			k.Default = flow(l.value.Interface())
		}
		keys = append(keys, k)
	}
	return keys
}

// flow is the value on one line of YAML.
func flow(v any) string {
	if s, ok := v.(fmt.Stringer); ok {
		return s.String()
	}
	var n yaml.Node
	if err := n.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	n.Style = yaml.FlowStyle
	out, err := yaml.Marshal(&n)
	if err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(string(out))
}
