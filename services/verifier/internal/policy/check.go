package policy

import (
	"context"
	"errors"
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
	// readsKEV and readsEPSS tell that the expression reads the member of a finding, and does
	// not ask whether it is known.
	readsKEV, readsEPSS bool
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
	if holds {
		return true, nil, c.holds.unknowable(f)
	}
	if c.items == nil {
		return false, nil, nil
	}
	out, _, err = c.items.ContextEval(ctx, vars)
	if err != nil {
		return false, nil, fmt.Errorf("items: %w", err)
	}
	items, err := texts(out)
	return false, items, err
}

// unknowable is the error of a rule that holds because no finding is known to be
// exploited, where nobody knows of any: that would be a false PASS. A rule that asks
// `advisories` itself decides for itself.
func (p *program) unknowable(f *core.Facts) error {
	if len(f.Findings) == 0 && (p.sees&seesSuppressed == 0 || len(f.Suppressed) == 0) {
		return nil
	}
	if p.readsKEV && !f.Advisories.ExploitedKnown {
		return errors.New("the rule reads kev, and the advisories behind the report do not know which vulnerabilities are exploited; import CISA's KEV catalogue")
	}
	if p.readsEPSS && !f.Advisories.ScoresKnown {
		return errors.New("the rule reads epss, and the advisories behind the report have no scores; import those of EPSS")
	}
	return nil
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
