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
}

// Evaluate runs the rule's expression and, if it does not hold, that of its
// items.
func (c *check) Evaluate(ctx context.Context, f *core.Facts) (bool, []string, error) {
	vars := variables(f, c.adapter)
	out, err := c.holds.run(ctx, vars)
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
	if out, err = c.items.run(ctx, vars); err != nil {
		return false, nil, fmt.Errorf("items: %w", err)
	}
	items, err := texts(out)
	return false, items, err
}

func (p *program) run(ctx context.Context, vars *activation) (ref.Val, error) {
	chosen := p.counted
	if p.free != nil && vars.fits(p.sees) {
		chosen = p.free
	}
	out, _, err := chosen.ContextEval(ctx, vars)
	return out, err
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
