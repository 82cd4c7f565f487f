package attest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// The field order is the one of the specification's examples; with encoding/json
// it makes the bytes of a statement a function of its content.
type statementJSON struct {
	statementHead
	Predicate json.RawMessage `json:"predicate"`
}

// statementHead is all of a statement but its last field.
type statementHead struct {
	Type          string        `json:"_type"`
	Subject       []subjectJSON `json:"subject"`
	PredicateType string        `json:"predicateType"`
}

// headRoom is the usual size of a statement without its predicate.
const headRoom = 512

type subjectJSON struct {
	Name   string            `json:"name,omitempty"`
	Digest map[string]string `json:"digest"`
}

// MarshalStatement gives the bytes that are signed: the same statement always
// gives the same bytes.
func MarshalStatement(st Statement) ([]byte, error) {
	if !isObject(st.Predicate) {
		return nil, malformed("predicate is not a JSON object", nil)
	}
	b, err := statementUpToPredicate(st, len(st.Predicate)+headRoom)
	if err != nil {
		return nil, err
	}
	if err := compact(b, st.Predicate); err != nil {
		return nil, malformed("statement", err)
	}
	b.WriteString(tail)
	raw := b.Bytes()
	if len(raw) > MaxStatement {
		return nil, fmt.Errorf("%w: statement of %d bytes exceeds the limit of %d", ErrTooLarge, len(raw), MaxStatement)
	}
	return raw, nil
}

// ParseStatement reads a statement of at most MaxStatement bytes. It verifies
// nothing about who made it. Subjects without a SHA-256 digest are left out, a
// statement without any other is malformed.
func ParseStatement(raw []byte) (Statement, error) {
	if len(raw) > MaxStatement {
		return Statement{}, fmt.Errorf("%w: statement of %d bytes exceeds the limit of %d", ErrTooLarge, len(raw), MaxStatement)
	}
	var doc statementJSON
	if err := strictjson.Unmarshal(raw, &doc); err != nil {
		return Statement{}, malformed("statement is not JSON", err)
	}
	if doc.Type != StatementType && doc.Type != StatementTypeV01 {
		return Statement{}, malformed(fmt.Sprintf("statement type %.100q", doc.Type), nil)
	}
	if err := checkPredicateType(doc.PredicateType); err != nil {
		return Statement{}, err
	}
	if len(doc.Subject) > MaxSubjects {
		return Statement{}, fmt.Errorf("%w: %d subjects", ErrTooLarge, len(doc.Subject))
	}
	// A statement may do without a predicate (in-toto Statement v1), as the image
	// signatures of cosign do.
	if doc.Predicate != nil && !isObject(doc.Predicate) {
		return Statement{}, malformed("predicate is not a JSON object", nil)
	}
	st := Statement{PredicateType: doc.PredicateType, Predicate: doc.Predicate}
	for _, s := range doc.Subject {
		if sum, ok := s.Digest["sha256"]; ok && isSHA256(sum) {
			st.Subject = append(st.Subject, Subject{Name: s.Name, SHA256: sum})
		}
	}
	if len(st.Subject) == 0 {
		return Statement{}, malformed("no subject with a SHA-256 digest", nil)
	}
	return st, nil
}

// guessStatement reads the subjects and the type of a statement that ParseStatement
// refuses, as most readers would. It is for taking trust away, never for giving it.
func guessStatement(raw []byte) Statement {
	var doc statementHead
	if len(raw) > MaxStatement || json.Unmarshal(raw, &doc) != nil {
		return Statement{}
	}
	st := Statement{PredicateType: doc.PredicateType}
	for _, s := range doc.Subject[:min(len(doc.Subject), MaxSubjects)] {
		st.Subject = append(st.Subject, Subject{SHA256: s.Digest["sha256"]})
	}
	return st
}

func (st Statement) isAbout(digest string) bool {
	sum, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || !isSHA256(sum) {
		return false
	}
	for _, s := range st.Subject {
		if s.SHA256 == sum {
			return true
		}
	}
	return false
}

const maxPredicateType = 512

func checkPredicateType(t string) error {
	u, err := url.Parse(t)
	if len(t) > maxPredicateType || err != nil || u.Scheme == "" {
		return malformed(fmt.Sprintf("predicate type %.100q is not a URI", t), err)
	}
	return nil
}

func isSHA256(s string) bool {
	if len(s) != 64 || strings.ToLower(s) != s {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}

func isObject(raw json.RawMessage) bool {
	trimmed := bytes.TrimLeft(raw, " \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '{'
}

func malformed(what string, cause error) error {
	return errors.Join(fmt.Errorf("%w: %s", ErrMalformed, what), cause)
}
