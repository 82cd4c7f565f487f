package policy

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// nativeBool translates an expression that tells whether a rule holds; nil if CEL has to.
func nativeBool(a *cel.Ast) value[bool] {
	n := native{references: a.NativeRep().ReferenceMap()}
	v, _ := n.expr(a.NativeRep().Expr()).(value[bool])
	return v
}

// nativeItems translates `findings.filter(f, …).map(f, …)`, which is what most rules
// name with; nil if CEL has to.
func nativeItems(a *cel.Ast) value[[]string] {
	n := native{references: a.NativeRep().ReferenceMap()}
	e := a.NativeRep().Expr()
	if e.Kind() != ast.ComprehensionKind {
		return nil
	}
	outer := e.AsComprehension()
	if outer.IterRange().Kind() != ast.ComprehensionKind || outer.HasIterVar2() || !gathers(outer) {
		return nil
	}
	filter := outer.IterRange().AsComprehension()
	if !n.walks(filter) || !gathers(filter) {
		return nil
	}
	// The condition is true: add the finding to the list; false: leave the list.
	step := call(filter.LoopStep(), operators.Conditional, 3)
	if step == nil || !isIdent(step[2], filter.AccuVar()) {
		return nil
	}
	if same := added(step[1], filter.AccuVar()); same == nil || !isIdent(same, filter.IterVar()) {
		return nil
	}
	inner := native{references: n.references, each: filter.IterVar()}
	condition, ok := inner.expr(step[0]).(value[bool])
	item := added(outer.LoopStep(), outer.AccuVar())
	if !ok || item == nil {
		return nil
	}
	inner.each = outer.IterVar()
	text, ok := inner.expr(item).(value[string])
	if !ok {
		return nil
	}
	return func(p *place) []string {
		var out []string
		for i := range p.facts.Findings {
			p.finding = &p.facts.Findings[i]
			if condition(p) {
				out = append(out, text(p))
			}
		}
		return out
	}
}

// gathers tells whether a comprehension makes a list, from an empty one on.
func gathers(c ast.ComprehensionExpr) bool {
	return c.AccuInit().Kind() == ast.ListKind && c.AccuInit().AsList().Size() == 0 && isIdent(c.Result(), c.AccuVar()) && c.IterVar() != c.AccuVar()
}

// added is what an expression adds to a list; nil if it does something else.
func added(e ast.Expr, list string) ast.Expr {
	add := call(e, operators.Add, 2)
	if add == nil || !isIdent(add[0], list) || add[1].Kind() != ast.ListKind {
		return nil
	}
	one := add[1].AsList()
	if one.Size() != 1 || len(one.OptionalIndices()) > 0 {
		return nil
	}
	return one.Elements()[0]
}

// walks tells whether a comprehension goes over all findings and gives what it gathered.
func (n *native) walks(c ast.ComprehensionExpr) bool {
	return n.each == "" && !c.HasIterVar2() && isIdent(c.IterRange(), "findings") && isIdent(c.Result(), c.AccuVar()) &&
		c.IterVar() != c.AccuVar() && c.IterVar() != "findings"
}

func isIdent(e ast.Expr, name string) bool { return e.Kind() == ast.IdentKind && e.AsIdent() == name }

// walk translates findings.all and findings.exists.
func (n *native) walk(c ast.ComprehensionExpr) any {
	if !n.walks(c) || c.AccuInit().Kind() != ast.LiteralKind {
		return nil
	}
	start, ok := c.AccuInit().AsLiteral().(types.Bool)
	if !ok {
		return nil
	}
	function := operators.LogicalAnd
	if !start {
		function = operators.LogicalOr
	}
	step := call(c.LoopStep(), function, 2)
	if step == nil || !isIdent(step[0], c.AccuVar()) {
		return nil
	}
	inner := native{references: n.references, each: c.IterVar()}
	condition, ok := inner.expr(step[1]).(value[bool])
	if !ok {
		return nil
	}
	all := bool(start)
	return value[bool](func(p *place) bool {
		for i := range p.facts.Findings {
			p.finding = &p.facts.Findings[i]
			if condition(p) != all {
				return !all
			}
		}
		return all
	})
}

// call returns the arguments of a call of a global function; nil if it is none.
func call(e ast.Expr, function string, args int) []ast.Expr {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != function || e.AsCall().IsMemberFunction() || len(e.AsCall().Args()) != args {
		return nil
	}
	return e.AsCall().Args()
}
