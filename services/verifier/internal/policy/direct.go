package policy

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// direct reads the fields that rules ask most often without reflection, which would
// cost more than the rest of a rule. Every other field is read as before.
func direct() cel.EnvOption {
	return func(env *cel.Env) (*cel.Env, error) {
		return cel.CustomTypeProvider(&directProvider{Provider: env.CELTypeProvider(), getters: getters(env.CELTypeAdapter())})(env)
	}
}

// getter reads a field of an object; false if it is no such object.
type getter func(object any) (any, bool)

type directProvider struct {
	types.Provider

	// getters by the name of the type and of the field.
	getters map[string]map[string]getter
}

// FindStructFieldType implements types.Provider.
func (p *directProvider) FindStructFieldType(structType, field string) (*types.FieldType, bool) {
	found, ok := p.Provider.FindStructFieldType(structType, field)
	if !ok {
		return nil, false
	}
	get := p.getters[structType][field]
	if get == nil {
		return found, true
	}
	fast, slow := *found, found.GetFrom
	fast.GetFrom = func(object any) (any, error) {
		if v, ok := get(object); ok {
			return v, nil
		}
		return slow(object)
	}
	return &fast, true
}

// field makes a getter of a pointer to T.
func field[T any](get func(*T) any) getter {
	return func(object any) (any, bool) {
		o, ok := object.(*T)
		if !ok {
			return nil, false
		}
		return get(o), true
	}
}

func getters(a types.Adapter) map[string]map[string]getter {
	return map[string]map[string]getter{
		"core.Finding": {
			"id":             field(func(f *core.Finding) any { return types.String(f.ID) }),
			"aliases":        field(func(f *core.Finding) any { return f.Aliases }),
			"severity":       field(func(f *core.Finding) any { return types.String(f.Severity) }),
			"severity_rank":  field(func(f *core.Finding) any { return types.Int(f.SeverityRank) }),
			"cvss":           field(func(f *core.Finding) any { return types.Double(f.CVSS) }),
			"epss":           field(func(f *core.Finding) any { return types.Double(f.EPSS) }),
			"kev":            field(func(f *core.Finding) any { return types.Bool(f.KEV) }),
			"package":        field(func(f *core.Finding) any { return types.String(f.Package) }),
			"version":        field(func(f *core.Finding) any { return types.String(f.Version) }),
			"purl":           field(func(f *core.Finding) any { return types.String(f.Purl) }),
			"fixed_versions": field(func(f *core.Finding) any { return f.FixedVersions }),
			"location":       field(func(f *core.Finding) any { return types.String(f.Location) }),
			"in_base_image":  field(func(f *core.Finding) any { return types.Bool(f.InBaseImage) }),
		},
		"core.Package": {
			"purl":          field(func(p *core.Package) any { return types.String(p.Purl) }),
			"name":          field(func(p *core.Package) any { return types.String(p.Name) }),
			"version":       field(func(p *core.Package) any { return types.String(p.Version) }),
			"ecosystem":     field(func(p *core.Package) any { return types.String(p.Ecosystem) }),
			"licenses":      field(func(p *core.Package) any { return p.Licenses }),
			"in_base_image": field(func(p *core.Package) any { return types.Bool(p.InBaseImage) }),
		},
		"core.Image": {
			"user":         field(func(i *core.Image) any { return types.String(i.User) }),
			"tag":          field(func(i *core.Image) any { return types.String(i.Tag) }),
			"distro":       field(func(i *core.Image) any { return &i.Distro }),
			"base_image":   field(func(i *core.Image) any { return &i.BaseImage }),
			"secrets":      field(func(i *core.Image) any { return list(a, i.Secrets) }),
			"env_names":    field(func(i *core.Image) any { return i.EnvNames }),
			"labels":       field(func(i *core.Image) any { return i.Labels }),
			"repository":   field(func(i *core.Image) any { return types.String(i.Repository) }),
			"registry":     field(func(i *core.Image) any { return types.String(i.Registry) }),
			"entrypoint":   field(func(i *core.Image) any { return i.Entrypoint }),
			"platform":     field(func(i *core.Image) any { return types.String(i.Platform) }),
			"reference":    field(func(i *core.Image) any { return types.String(i.Reference) }),
			"shells":       field(func(i *core.Image) any { return i.Shells }),
			"created":      field(func(i *core.Image) any { return i.Created }),
			"digest":       field(func(i *core.Image) any { return types.String(i.Digest) }),
			"setuid_files": field(func(i *core.Image) any { return i.SetuidFiles }),
		},
		"core.Distro": {
			"id":      field(func(d *core.Distro) any { return types.String(d.ID) }),
			"version": field(func(d *core.Distro) any { return types.String(d.Version) }),
		},
		"core.Attestation": {
			"predicate_type": field(func(a *core.Attestation) any { return types.String(a.PredicateType) }),
			"predicate":      field(func(a *core.Attestation) any { return a.Predicate }),
			"key_id":         field(func(a *core.Attestation) any { return types.String(a.KeyID) }),
		},
	}
}

// objects is a list whose elements are given as pointers, so that walking over it
// copies nothing.
type objects[T any] struct {
	// Lister does what is rarely asked for.
	traits.Lister

	items   []T
	adapter types.Adapter
}

func list[T any](a types.Adapter, items []T) *objects[T] {
	return &objects[T]{Lister: types.NewDynamicList(a, items), items: items, adapter: a}
}

// Fold implements traits.Foldable.
func (o *objects[T]) Fold(f traits.Folder) {
	for i := range o.items {
		if !f.FoldEntry(i, &o.items[i]) {
			return
		}
	}
}

// Get implements traits.Indexer.
func (o *objects[T]) Get(index ref.Val) ref.Val {
	if i, ok := index.(types.Int); ok && i >= 0 && int(i) < len(o.items) {
		return o.adapter.NativeToValue(&o.items[i])
	}
	return o.Lister.Get(index)
}

// Iterator implements traits.Iterable.
func (o *objects[T]) Iterator() traits.Iterator {
	return &iterator[T]{of: o}
}

// Size implements traits.Sizer.
func (o *objects[T]) Size() ref.Val { return types.Int(len(o.items)) }

type iterator[T any] struct {
	// Val is never asked for: an iterator is no value of a rule.
	ref.Val

	of   *objects[T]
	next int
}

// HasNext implements traits.Iterator.
func (i *iterator[T]) HasNext() ref.Val { return types.Bool(i.next < len(i.of.items)) }

// Next implements traits.Iterator.
func (i *iterator[T]) Next() ref.Val {
	v := i.of.adapter.NativeToValue(&i.of.items[i.next])
	i.next++
	return v
}
