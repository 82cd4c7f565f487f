package policy

import (
	"context"
	"fmt"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// check evaluates one rule.
type check struct {
	holds *program
	// items is nil if the rule names none.
	items *program
}

// program is a compiled expression.
type program struct {
	sees variable
	cel.Program
}

// Evaluate runs the rule's expression and, if it does not hold, that of its
// items.
func (c *check) Evaluate(ctx context.Context, f *core.Facts) (bool, []string, error) {
	vars := variables{f}
	out, _, err := c.holds.ContextEval(ctx, vars)
	if err != nil {
		return false, nil, fmt.Errorf("expression: %w", err)
	}
	holds, ok := out.Value().(bool)
	if !ok {
		return false, nil, fmt.Errorf("expression gave %s, not bool", out.Type())
	}
	if holds || c.items == nil {
		return holds, nil, nil
	}
	out, _, err = c.items.ContextEval(ctx, vars)
	if err != nil {
		return false, nil, fmt.Errorf("items: %w", err)
	}
	items, err := texts(out)
	return false, items, err
}

func texts(v ref.Val) ([]string, error) {
	native, err := v.ConvertToNative(reflect.TypeFor[[]string]())
	if err != nil {
		return nil, fmt.Errorf("items: %w", err)
	}
	list, ok := native.([]string)
	if !ok {
		return nil, fmt.Errorf("items gave %T, not a list of texts", native)
	}
	return list, nil
}

// variables gives facts to expressions.
type variables struct{ *core.Facts }

// ResolveName implements cel.Activation.
func (v variables) ResolveName(name string) (any, bool) {
	switch name {
	case "image":
		return v.Image, true
	case "packages":
		return v.Packages, true
	case "findings":
		return v.Findings, true
	case "suppressed_findings":
		return v.Suppressed, true
	case "attestations":
		return v.Attestations, true
	case "advisories":
		return &v.Advisories, true
	case "now":
		return v.Now, true
	default:
		return nil, false
	}
}

// Parent implements cel.Activation.
func (variables) Parent() cel.Activation { return nil }
