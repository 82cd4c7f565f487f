package verifier

import (
	_ "cel.dev/cel-go/cel"
	_ "cel.dev/cel-go/ext"
)
