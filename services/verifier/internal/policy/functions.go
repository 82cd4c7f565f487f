package policy

import (
	"fmt"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"golang.org/x/mod/semver"

	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

const (
	// maxGlob is the length of a pattern of glob().
	maxGlob = 512
	// maxDays is the largest argument of days(): about a century.
	maxDays = 36_500
)

// functions are what CEL alone is clumsy at. What they cannot answer is an error,
// which makes the rule UNKNOWN, never a rule that holds by accident.
func functions() []cel.EnvOption {
	text, number := cel.StringType, cel.IntType
	return []cel.EnvOption{
		cel.Function("semverCompare", cel.Overload("semver_compare_string_string", []*cel.Type{text, text}, number,
			cel.BinaryBinding(func(a, b ref.Val) ref.Val {
				x, err := semanticVersion(a)
				if err != nil {
					return types.NewErr("%v", err)
				}
				y, err := semanticVersion(b)
				if err != nil {
					return types.NewErr("%v", err)
				}
				return types.Int(semver.Compare(x, y))
			}))),
		cel.Function("isSemver", cel.Overload("is_semver_string", []*cel.Type{text}, cel.BoolType,
			cel.UnaryBinding(func(v ref.Val) ref.Val {
				_, err := semanticVersion(v)
				return types.Bool(err == nil)
			}))),
		cel.Function("glob", cel.MemberOverload("string_glob_string", []*cel.Type{text, text}, cel.BoolType,
			cel.BinaryBinding(func(v, pattern ref.Val) ref.Val {
				s, p := nativeText(v), nativeText(pattern)
				if len(p) > maxGlob {
					return types.NewErr("glob: the pattern has %d bytes, more than %d", len(p), maxGlob)
				}
				return types.Bool(globMatches(p, s))
			}))),
		cel.Function("days", cel.Overload("days_int", []*cel.Type{number}, cel.DurationType,
			cel.UnaryBinding(func(v ref.Val) ref.Val {
				n, ok := v.Value().(int64)
				if !ok || n < -maxDays || n > maxDays {
					return types.NewErr("days: %v is not between -%d and %d", v.Value(), maxDays, maxDays)
				}
				return types.Duration{Duration: time.Duration(n) * 24 * time.Hour}
			}))),
		cel.Function("severityRank", cel.Overload("severity_rank_string", []*cel.Type{text}, number,
			cel.UnaryBinding(func(v ref.Val) ref.Val {
				name := strings.ToUpper(nativeText(v))
				for rank := core.SeverityUnknown; rank <= core.SeverityCritical; rank++ {
					if core.SeverityName(rank) == name {
						return types.Int(rank)
					}
				}
				return types.NewErr("severityRank: there is no severity %.40q", nativeText(v))
			}))),
	}
}

func nativeText(v ref.Val) string {
	s, _ := v.Value().(string) // the overload takes nothing else
	return s
}

// semanticVersion accepts 1.2.3 as well as v1.2.3, and the short 1 and 1.2.
func semanticVersion(v ref.Val) (string, error) {
	s := nativeText(v)
	if !strings.HasPrefix(s, "v") {
		s = "v" + s
	}
	if !semver.IsValid(s) {
		return "", fmt.Errorf("semver: %.100q is not a semantic version", nativeText(v))
	}
	return s, nil
}

// globMatches is the language of compileGlobs for any text: `*` is any text
// without a slash, `**` any text, `?` one character that is no slash. Its time is
// bounded by the product of the lengths.
func globMatches(pattern, s string) bool {
	text := []rune(s)
	// at[i] tells whether the pattern so far matches the first i characters.
	at := make([]bool, len(text)+1)
	at[0] = true
	tokens := []rune(pattern)
	for i := 0; i < len(tokens); i++ {
		switch tokens[i] {
		case '*':
			deep := i+1 < len(tokens) && tokens[i+1] == '*'
			for i+1 < len(tokens) && tokens[i+1] == '*' {
				i++
			}
			for j := range text {
				at[j+1] = at[j+1] || at[j] && (deep || text[j] != '/')
			}
		default:
			for j := len(text); j > 0; j-- {
				c := text[j-1]
				at[j] = at[j-1] && (c == tokens[i] || tokens[i] == '?' && c != '/')
			}
			at[0] = false
		}
	}
	return at[len(text)]
}
