package policy

import (
	"cmp"
	"math"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// Most rules walk over the findings and compare a few fields with constants. CEL's
// interpreter takes about 0.3 µs for each step of that; what is below makes Go functions
// of such expressions, which take a few nanoseconds. They cover next to nothing that can
// fail, so that there is no order of evaluation to keep to, and what fails all the same
// is left to CEL, like everything else. A test and a fuzz target compare both.

// place is where an expression is evaluated.
type place struct {
	facts *core.Facts
	// finding is that of the walk around the expression.
	finding *core.Finding
	// failed tells that CEL has to say what comes of it.
	failed bool
}

// value is an expression of a type; texts are lists of text.
type value[T any] func(*place) T

type textList = value[[]string]

// native translates expressions of one program.
type native struct {
	references map[int64]*ast.ReferenceInfo
	// each is the variable of the walk around the expression.
	each string
}

// expr translates an expression into a value; nil if it cannot.
func (n *native) expr(e ast.Expr) any {
	switch e.Kind() {
	case ast.LiteralKind:
		return constant(e.AsLiteral())
	case ast.IdentKind:
		if r := n.references[e.ID()]; r != nil && r.Value != nil {
			return constant(r.Value)
		}
	case ast.SelectKind:
		if s := e.AsSelect(); !s.IsTestOnly() && n.each != "" && isIdent(s.Operand(), n.each) {
			return findingField(s.FieldName())
		}
	case ast.ComprehensionKind:
		return n.walk(e.AsComprehension())
	case ast.CallKind:
		return n.call(e.AsCall())
	case ast.UnspecifiedExprKind, ast.ListKind, ast.MapKind, ast.StructKind:
	}
	return nil
}

func constant(v ref.Val) any {
	switch v := v.(type) {
	case types.Bool:
		return always(bool(v))
	case types.Int:
		return always(int64(v))
	case types.Double:
		if !math.IsNaN(float64(v)) {
			return always(float64(v))
		}
	case types.String:
		return always(string(v))
	}
	return nil
}

func always[T any](v T) value[T] { return func(*place) T { return v } }

func findingField(name string) any {
	text := func(get func(*core.Finding) string) value[string] {
		return func(p *place) string { return get(p.finding) }
	}
	switch name {
	case "id":
		return text(func(f *core.Finding) string { return f.ID })
	case "severity":
		return text(func(f *core.Finding) string { return f.Severity })
	case "package":
		return text(func(f *core.Finding) string { return f.Package })
	case "version":
		return text(func(f *core.Finding) string { return f.Version })
	case "purl":
		return text(func(f *core.Finding) string { return f.Purl })
	case "location":
		return text(func(f *core.Finding) string { return f.Location })
	case "vex_status":
		return text(func(f *core.Finding) string { return f.VexStatus })
	case "severity_rank":
		return value[int64](func(p *place) int64 { return p.finding.SeverityRank })
	case "cvss":
		return value[float64](func(p *place) float64 { return p.finding.CVSS })
	case "epss":
		return value[float64](func(p *place) float64 { return p.finding.EPSS })
	case "kev":
		return value[bool](func(p *place) bool { return p.finding.KEV })
	case "in_base_image":
		return value[bool](func(p *place) bool { return p.finding.InBaseImage })
	case "aliases":
		return textList(func(p *place) []string { return p.finding.Aliases })
	case "fixed_versions":
		return textList(func(p *place) []string { return p.finding.FixedVersions })
	default:
		return nil
	}
}

func (n *native) call(c ast.CallExpr) any {
	args := c.Args()
	if c.IsMemberFunction() {
		args = append([]ast.Expr{c.Target()}, args...)
	}
	switch {
	case c.FunctionName() == operators.In && len(args) == 2:
		return n.in(args[0], args[1])
	case len(args) == 0 || len(args) > 3:
		return nil
	}
	var v [3]any
	for i, a := range args {
		if v[i] = n.expr(a); v[i] == nil {
			return nil
		}
	}
	switch c.FunctionName() {
	case operators.LogicalNot:
		if x, ok := v[0].(value[bool]); ok {
			return value[bool](func(p *place) bool { return !x(p) })
		}
	case operators.LogicalAnd:
		return logic(v, func(x, y value[bool]) value[bool] { return func(p *place) bool { return x(p) && y(p) } })
	case operators.LogicalOr:
		return logic(v, func(x, y value[bool]) value[bool] { return func(p *place) bool { return x(p) || y(p) } })
	case operators.Conditional:
		x, ok := v[0].(value[bool])
		y, ok2 := v[1].(value[bool])
		z, ok3 := v[2].(value[bool])
		if ok && ok2 && ok3 {
			return value[bool](func(p *place) bool {
				if x(p) {
					return y(p)
				}
				return z(p)
			})
		}
	case overloads.Size:
		switch x := v[0].(type) {
		case textList:
			return value[int64](func(p *place) int64 { return int64(len(x(p))) })
		case value[string]:
			return value[int64](func(p *place) int64 { return int64(utf8.RuneCountInString(x(p))) })
		}
	case operators.Add:
		return join(v)
	case operators.Index:
		list, ok := v[0].(textList)
		i, ok2 := v[1].(value[int64])
		if ok && ok2 {
			return value[string](func(p *place) string {
				all, n := list(p), i(p)
				if n < 0 || n >= int64(len(all)) {
					p.failed = true
					return ""
				}
				return all[n]
			})
		}
	case overloads.StartsWith:
		return textTest(v, strings.HasPrefix)
	case overloads.EndsWith:
		return textTest(v, strings.HasSuffix)
	case overloads.Contains:
		return textTest(v, strings.Contains)
	default:
		return compare(c.FunctionName(), v)
	}
	return nil
}

func logic(v [3]any, combine func(x, y value[bool]) value[bool]) any {
	x, ok := v[0].(value[bool])
	y, ok2 := v[1].(value[bool])
	if !ok || !ok2 || v[2] != nil {
		return nil
	}
	return combine(x, y)
}

func textTest(v [3]any, test func(s, part string) bool) any {
	x, ok := v[0].(value[string])
	y, ok2 := v[1].(value[string])
	if !ok || !ok2 || v[2] != nil {
		return nil
	}
	return value[bool](func(p *place) bool { return test(x(p), y(p)) })
}

// join translates the sum of two texts.
func join(v [3]any) any {
	x, ok := v[0].(value[string])
	y, ok2 := v[1].(value[string])
	if !ok || !ok2 || v[2] != nil {
		return nil
	}
	return value[string](func(p *place) string { return x(p) + y(p) })
}

// in translates membership in a list of constants, and of a text in a list of texts.
func (n *native) in(what, list ast.Expr) any {
	x, ok := n.expr(what).(value[string])
	if !ok {
		return nil
	}
	if all, ok := n.expr(list).(textList); ok {
		return value[bool](func(p *place) bool {
			want := x(p)
			for _, s := range all(p) {
				if s == want {
					return true
				}
			}
			return false
		})
	}
	if list.Kind() != ast.ListKind || len(list.AsList().OptionalIndices()) > 0 {
		return nil
	}
	members := map[string]bool{}
	for _, e := range list.AsList().Elements() {
		if e.Kind() != ast.LiteralKind {
			return nil
		}
		s, ok := e.AsLiteral().(types.String)
		if !ok {
			return nil
		}
		members[string(s)] = true
	}
	return value[bool](func(p *place) bool { return members[x(p)] })
}

// compare translates comparisons of two values of one type.
func compare(function string, v [3]any) any {
	if v[2] != nil {
		return nil
	}
	switch x := v[0].(type) {
	case value[int64]:
		return compareTwo(function, x, v[1])
	case value[float64]:
		return compareTwo(function, x, v[1])
	case value[string]:
		return compareTwo(function, x, v[1])
	case value[bool]:
		y, ok := v[1].(value[bool])
		switch {
		case ok && function == operators.Equals:
			return value[bool](func(p *place) bool { return x(p) == y(p) })
		case ok && function == operators.NotEquals:
			return value[bool](func(p *place) bool { return x(p) != y(p) })
		}
	}
	return nil
}

func compareTwo[T cmp.Ordered](function string, x value[T], other any) any {
	y, ok := other.(value[T])
	if !ok {
		return nil
	}
	switch function {
	case operators.Equals:
		return value[bool](func(p *place) bool { return x(p) == y(p) })
	case operators.NotEquals:
		return value[bool](func(p *place) bool { return x(p) != y(p) })
	case operators.Less:
		return value[bool](func(p *place) bool { return x(p) < y(p) })
	case operators.LessEquals:
		return value[bool](func(p *place) bool { return x(p) <= y(p) })
	case operators.Greater:
		return value[bool](func(p *place) bool { return x(p) > y(p) })
	case operators.GreaterEquals:
		return value[bool](func(p *place) bool { return x(p) >= y(p) })
	default:
		return nil
	}
}
