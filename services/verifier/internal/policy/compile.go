package policy

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	celast "cel.dev/cel-go/common/ast"
	"go.yaml.in/yaml/v3"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/strictyaml"
)

// compiler turns the expressions of one document into programs.
type compiler struct {
	env *cel.Env
	// source is the document, line the number of lines before it in the file.
	source []string
	line   int
}

func newCompiler(env *cel.Env, r raw) *compiler {
	return &compiler{env: env, source: strings.Split(string(r.text), "\n"), line: r.line}
}

// compile checks one expression: syntax, types, result type and cost.
func (c *compiler) compile(t text, want *cel.Type) (*program, error) {
	if strings.TrimSpace(t.Value) == "" {
		return nil, at(t, "an expression is needed")
	}
	ast, issues := c.env.Compile(t.Value)
	if err := issues.Err(); err != nil {
		return nil, c.issues(t, issues.Errors())
	}
	if !ast.OutputType().IsExactType(want) {
		return nil, at(t, "the expression gives %s, it must give %s", ast.OutputType(), want)
	}
	estimate, err := c.env.EstimateCost(ast, sizes{})
	if err != nil {
		return nil, at(t, "the cost cannot be estimated: %v", err)
	}
	if estimate.Max > MaxCost {
		return nil, at(t, "the expression can cost %d, more than %d; walk over findings or packages once, not nested", estimate.Max, MaxCost)
	}
	p, err := c.env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.InterruptCheckFrequency(interruptEvery), cel.CostLimit(MaxCost))
	if err != nil {
		return nil, at(t, "%v", err)
	}
	reads := members(ast)
	return &program{
		sees: seen(ast), Program: p,
		readsKEV: reads["kev"] && !reads["exploited_known"], readsEPSS: reads["epss"] && !reads["scores_known"],
	}, nil
}

// variable is a set of the variables that vary in size.
type variable uint8

const (
	seesImage variable = 1 << iota
	seesPackages
	seesFindings
	seesSuppressed
	seesAttestations
	seesAdvisories
)

var variableNames = map[string]variable{
	"image": seesImage, "packages": seesPackages, "findings": seesFindings, "suppressed_findings": seesSuppressed,
	"attestations": seesAttestations, "advisories": seesAdvisories,
}

// seen are the variables that an expression names.
func seen(ast *cel.Ast) variable {
	var out variable
	for _, r := range ast.NativeRep().ReferenceMap() {
		out |= variableNames[r.Name]
	}
	return out
}

// members are the members of objects that an expression reads, whatever the object.
func members(checked *cel.Ast) map[string]bool {
	out := map[string]bool{}
	celast.PostOrderVisit(checked.NativeRep().Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() == celast.SelectKind {
			out[e.AsSelect().FieldName()] = true
		}
	}))
	return out
}

// unseen are the parts of evidence that an expression which names these does not look at.
func (v variable) unseen() core.Parts {
	out := core.AllParts
	if v&seesPackages != 0 {
		out &^= core.PartPackages
	}
	if v&seesAttestations != 0 {
		out &^= core.PartPredicates
	}
	return out
}

// at makes a fault of a field.
func at(t text, format string, args ...any) error {
	return &strictyaml.Fault{Path: t.Path, Line: t.Line, Column: t.Column, Problem: fmt.Sprintf(format, args...)}
}

// removed explains fields that people expect of an image, by the message of the
// type checker.
var removed = map[string]string{
	"undefined field 'tag'":       noTag,
	"undefined field 'reference'": noTag,
}

const noTag = "a verdict is about a digest, and a tag can be moved to it without a new verdict, so rules see no tag; " +
	"use image.registry, image.repository, image.digest or image.labels, and check tags where the image is deployed"

// issues shows each fault of an expression with its line and a caret.
func (c *compiler) issues(t text, faults []*common.Error) error {
	lines := strings.Split(t.Value, "\n")
	out := &strictyaml.Fault{Path: t.Path}
	var b strings.Builder
	for i, f := range faults[:min(len(faults), 10)] {
		row, col := max(f.Location.Line(), 1), max(f.Location.Column(), 0)
		fileLine, fileCol := c.position(t, row, col)
		if i == 0 {
			out.Line, out.Column = fileLine, fileCol
		} else {
			fmt.Fprintf(&b, "\n%d:%d: ", fileLine, fileCol)
		}
		b.WriteString(strings.ReplaceAll(f.Message, "\n", " "))
		if why, ok := removed[f.Message]; ok {
			b.WriteString(": " + why)
		}
		if row <= len(lines) {
			fmt.Fprintf(&b, "\n    %s\n    %s^", printable(lines[row-1]), strings.Repeat(" ", col))
		}
	}
	out.Problem = b.String()
	return out
}

// position maps a place in an expression to a place in the file. Row counts
// from 1, col from 0. Folded texts lose their lines, so there the place is that
// of the text.
func (c *compiler) position(t text, row, col int) (line, column int) {
	switch {
	case t.style&yaml.LiteralStyle != 0:
		line = t.Line + row
		if i := line - 1 - c.line; i >= 0 && i < len(c.source) {
			// The indent of a literal is that of its first line.
			first := c.source[min(max(t.Line-c.line, 0), len(c.source)-1)]
			return line, len(first) - len(strings.TrimLeft(first, " ")) + col + 1
		}
		return line, col + 1
	case t.style&yaml.FoldedStyle != 0 || row > 1:
		return t.Line, t.Column
	case t.style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		return t.Line, t.Column + 1 + col
	default:
		return t.Line, t.Column + col
	}
}

// printable keeps the caret under its character.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
