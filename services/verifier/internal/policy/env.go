package policy

import (
	"fmt"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

const (
	// MaxCost bounds one expression, in CEL's units, when it is loaded (worst case
	// over the sizes below) and again when it runs. A walk over all findings with a
	// few comparisons each stays well below; a nested walk of findings over
	// packages does not.
	MaxCost = 50_000_000
	// MaxPackages of a report; more is no evidence.
	MaxPackages = 100_000
	// MaxFindings of a report; more is no evidence.
	MaxFindings = 50_000
	// maxShortList bounds labels, ports, aliases and the like for the estimate.
	maxShortList = 100
	// maxString bounds texts for the estimate.
	maxString = 256
	// interruptEvery is the number of loop steps between looks at the context.
	interruptEvery = 1000
)

// newEnv declares what expressions can see and call.
func newEnv() (*cel.Env, error) {
	object := func(v any) *cel.Type { return cel.ObjectType(reflect.TypeOf(v).String()) }
	opts := []cel.EnvOption{
		ext.NativeTypes(
			reflect.TypeFor[core.Image](), reflect.TypeFor[core.Distro](), reflect.TypeFor[core.Package](),
			reflect.TypeFor[core.Finding](), reflect.TypeFor[core.Attestation](), reflect.TypeFor[core.Advisories](),
			reflect.TypeFor[core.BaseImage](), reflect.TypeFor[core.Secret](),
			ext.ParseStructTags(true),
		),
		ext.Strings(),
		cel.ParserRecursionLimit(100),
		cel.ParserExpressionSizeLimit(MaxExpression),
		cel.Variable("image", object(core.Image{})),
		cel.Variable("packages", cel.ListType(object(core.Package{}))),
		cel.Variable("findings", cel.ListType(object(core.Finding{}))),
		cel.Variable("suppressed_findings", cel.ListType(object(core.Finding{}))),
		cel.Variable("attestations", cel.ListType(object(core.Attestation{}))),
		cel.Variable("advisories", object(core.Advisories{})),
		cel.Variable("now", cel.TimestampType),
	}
	// As constants a misspelt severity is an error at load; a misspelt text would
	// be a rule that never fires.
	for rank := core.SeverityUnknown; rank <= core.SeverityCritical; rank++ {
		opts = append(opts, cel.Constant(core.SeverityName(rank), cel.IntType, types.Int(rank)))
	}
	opts = append(opts, functions()...)
	env, err := cel.NewEnv(opts...)
	if err != nil {
		return nil, fmt.Errorf("build CEL environment: %w", err)
	}
	return env, nil
}

// sizes tells the cost estimate how long lists and texts can be.
type sizes struct{}

// EstimateCallCost knows the cost of our own functions and leaves the others to
// CEL.
func (sizes) EstimateCallCost(_, overload string, _ *cost.AstNode, _ []cost.AstNode) *cost.CallEstimate {
	const aWalk = maxString / 10 // as CEL counts a walk over a text
	switch overload {
	case "string_glob_string":
		return &cost.CallEstimate{CostEstimate: cost.Estimate{Min: 1, Max: 4 * aWalk}}
	case "semver_compare_string_string", "is_semver_string":
		return &cost.CallEstimate{CostEstimate: cost.Estimate{Min: 1, Max: 2 * aWalk}}
	default:
		return nil
	}
}

// EstimateSize bounds what can be reached from a variable.
func (sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	path := n.Path()
	if len(path) == 1 {
		switch path[0] {
		case "packages":
			return upTo(MaxPackages)
		case "findings", "suppressed_findings":
			return upTo(MaxFindings)
		}
	}
	if n.Type() != nil && n.Type().Kind() == types.StringKind {
		return upTo(maxString)
	}
	return upTo(maxShortList)
}

func upTo(n uint64) *cost.SizeEstimate {
	return &cost.SizeEstimate{Min: 0, Max: n}
}
