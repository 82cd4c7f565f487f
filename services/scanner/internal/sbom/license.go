package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/github/go-spdx/v2/spdxexp"
)

// maxExpression bounds the text that is parsed as a licence expression, in bytes.
// The parser is recursive and what packages declare is hostile.
const maxExpression = 1000

// validExpression tells whether what a package declares is an SPDX licence
// expression of known licences.
func validExpression(s string) bool {
	if s == "" || len(s) > maxExpression {
		return false
	}
	// A reference means something only in the document that it comes from.
	ok, _ := spdxexp.ValidateLicensesWithOptions([]string{s}, spdxexp.ValidateLicensesOptions{FailAllLicenseRefs: true, FailAllDocumentRefs: true})
	return ok
}

// licenseRef names what a package declares and what is no expression.
func licenseRef(declared string) string {
	sum := sha256.Sum256([]byte(declared))
	return "LicenseRef-" + hex.EncodeToString(sum[:8])
}

// expression joins what a package declares to one expression. Every part that is
// none is given to other, which returns the name to use in its place.
func expression(declared []string, other func(string) string) string {
	parts := make([]string, 0, len(declared))
	for _, d := range declared {
		switch {
		case !validExpression(d):
			d = other(d)
		case len(declared) > 1 && strings.Contains(d, " "):
			d = "(" + d + ")"
		}
		parts = append(parts, d)
	}
	return strings.Join(parts, " AND ")
}

// allValid tells whether everything a package declares is an expression.
func allValid(declared []string) bool {
	for _, d := range declared {
		if !validExpression(d) {
			return false
		}
	}
	return true
}
