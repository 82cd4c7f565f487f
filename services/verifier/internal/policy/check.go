package policy

import (
	"context"
	"fmt"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// check evaluates one rule.
type check struct {
	holds *program
	// items is nil if the rule names none.
	items   *program
	adapter types.Adapter
}

// program is an expression that is compiled twice: counting what it costs, and not.
type program struct {
	sees    variable
	counted cel.Program
	// free is for facts that fit, see fits: of them the estimate has proven that the
	// expression is cheap enough. Nil if the expression sees what has no bounds.
	free cel.Program
	// native is the same for such facts without CEL, and nativeItems for the items of a
	// rule; nil if the expression is not of those that can be translated.
	native      value[bool]
	nativeItems value[[]string]
}

// Evaluate runs the rule's expression and, if it does not hold, that of its
// items.
func (c *check) Evaluate(ctx context.Context, f *core.Facts) (bool, []string, error) {
	vars := variables(f, c.adapter)
	holds, err := c.holds.test(ctx, vars)
	if err != nil || holds || c.items == nil {
		return holds, nil, err
	}
	items, err := c.items.list(ctx, vars)
	return false, items, err
}

// test runs an expression that gives a truth value.
func (p *program) test(ctx context.Context, vars *activation) (bool, error) {
	if p.native != nil && vars.fits(p.sees) {
		if err := ctx.Err(); err != nil {
			return false, fmt.Errorf("expression: %w", err)
		}
		here := place{facts: vars.of}
		if holds := p.native(&here); !here.failed {
			return holds, nil
		}
	}
	out, err := p.run(ctx, vars)
	if err != nil {
		return false, fmt.Errorf("expression: %w", err)
	}
	holds, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("expression gave %s, not bool", out.Type())
	}
	return holds, nil
}

func (p *program) run(ctx context.Context, vars *activation) (ref.Val, error) {
	chosen := p.counted
	if p.free != nil && vars.fits(p.sees) {
		chosen = p.free
	}
	out, _, err := chosen.ContextEval(ctx, vars)
	return out, err
}

// list runs an expression that gives a list of texts.
func (p *program) list(ctx context.Context, vars *activation) ([]string, error) {
	if p.nativeItems != nil && vars.fits(p.sees) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("items: %w", err)
		}
		here := place{facts: vars.of}
		if items := p.nativeItems(&here); !here.failed {
			return items, nil
		}
	}
	out, err := p.run(ctx, vars)
	if err != nil {
		return nil, fmt.Errorf("items: %w", err)
	}
	return texts(out)
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
