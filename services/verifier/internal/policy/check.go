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
	// native is the same for such facts without CEL, nil if the expression is not of those
	// that can be translated; filter is the condition of the findings that the expression
	// is about, if that is all it has to do with findings.
	native, filter value[bool]
}

// Evaluate runs the rule's expression and, if it does not hold, that of its
// items.
func (c *check) Evaluate(ctx context.Context, f *core.Facts) (bool, []string, error) {
	vars := variables(f, c.adapter)
	holds, err := c.holds.test(ctx, vars)
	if err != nil || holds || c.items == nil {
		return holds, nil, err
	}
	out, err := c.items.run(ctx, vars)
	if err != nil {
		return false, nil, fmt.Errorf("items: %w", err)
	}
	items, err := texts(out)
	return false, items, err
}

// test runs an expression that gives a truth value.
func (p *program) test(ctx context.Context, vars *activation) (bool, error) {
	if p.native != nil && vars.fits(p.sees) {
		if err := ctx.Err(); err != nil {
			return false, fmt.Errorf("expression: %w", err)
		}
		return p.native(&place{facts: vars.of}), nil
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
	if p.free == nil || !vars.fits(p.sees) {
		out, _, err := p.counted.ContextEval(ctx, vars)
		return out, err
	}
	if p.filter != nil {
		vars = vars.only(p.filter)
	}
	out, _, err := p.free.ContextEval(ctx, vars)
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
