package extract

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"

	"github.com/google/osv-scalibr/extractor"
)

// The measure of work stops an extractor when it reads or asks whether to go on. Some parsers
// read everything first and then take quadratic time, or a stack as deep as the text is nested.
// What such a parser is given is bounded before.
const (
	// maxLine is the length of the longest line of a text that is read line by line. The
	// extractors stop at a line of 64 KiB without an error, and leave out what follows.
	maxLine = 16 << 10
	// maxDots is how many dots a key of TOML may have: each makes a table in a table.
	maxDots = 64
	// maxNesting is how deep lists and tables of TOML may be nested.
	maxNesting = 1000
)

// checked gives a text to the extractor of a plugin if it is within bounds.
func (p *plugin) checked(check func(text []byte) error) {
	next := p.extract
	p.extract = func(ctx context.Context, path string, info fs.FileInfo, content *content) ([]*extractor.Package, error) {
		text, err := content.bytes()
		if err != nil {
			return nil, err
		}
		if err := check(text); err != nil {
			return nil, err
		}
		return next(ctx, path, info, content)
	}
}

func checkLines(text []byte) error {
	for len(text) > maxLine {
		i := bytes.IndexByte(text[:maxLine+1], '\n')
		if i < 0 {
			return fmt.Errorf("%w: a line is longer than %d bytes", errOver, maxLine)
		}
		text = text[i+1:]
	}
	return nil
}

// checkTOML counts without regard to quotes: real lockfiles stay far below the bounds.
func checkTOML(text []byte) error {
	dots, depth := 0, 0
	for _, c := range text {
		switch c {
		case '.':
			if dots++; dots > maxDots {
				return fmt.Errorf("%w: a key has more than %d parts", errOver, maxDots)
			}
		case '[', '{':
			dots = 0
			if depth++; depth > maxNesting {
				return fmt.Errorf("%w: nested deeper than %d", errOver, maxNesting)
			}
		case ']', '}':
			dots, depth = 0, max(0, depth-1)
		case '\n', '=', ',':
			dots = 0
		}
	}
	return nil
}
