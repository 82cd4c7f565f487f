package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/seaworthy-dev/seaworthy/pkg/spool"
)

// MaxDocument is the largest document that a statement is made of without having it
// in memory, in bytes.
const MaxDocument = 256 << 20

// Content can be read from anywhere, as often as is wanted, by several readers at
// once. A bytes.Reader is one, and so is a spool.Spool.
type Content interface {
	io.ReaderAt
	// Size is the number of bytes.
	Size() int64
}

// Payload is a statement as it is signed. Its predicate may be a document that is
// somewhere else than in memory, and must be there for as long as the payload is used.
type Payload struct {
	predicateType string
	subject       string // the digest, sha256:<hex>
	// head is all before the document, tail what follows; without a document head is all.
	head []byte
	doc  Content
	size int64
}

// tail is what follows a predicate.
const tail = "}"

// NewPayload makes the payload of a statement, of at most MaxStatement bytes.
func NewPayload(st Statement) (Payload, error) {
	raw, err := MarshalStatement(st)
	if err != nil {
		return Payload{}, err
	}
	return Payload{predicateType: st.PredicateType, subject: "sha256:" + st.Subject[0].SHA256, head: raw, size: int64(len(raw))}, nil
}

// NewDocumentPayload makes the payload of a statement whose predicate, which st does
// not have, is doc: one JSON object without spaces between its tokens, as
// jsonstream.Writer passes it on, of at most MaxDocument bytes. It is signed as it is.
func NewDocumentPayload(st Statement, doc Content) (Payload, error) {
	if doc.Size() > MaxDocument {
		return Payload{}, fmt.Errorf("%w: document of %d bytes exceeds the limit of %d", ErrTooLarge, doc.Size(), MaxDocument)
	}
	var first [1]byte
	if _, err := doc.ReadAt(first[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return Payload{}, fmt.Errorf("read the document: %w", err)
	}
	if !isObject(first[:]) {
		return Payload{}, malformed("predicate is not a JSON object", nil)
	}
	head, err := statementUpToPredicate(st, headRoom)
	if err != nil {
		return Payload{}, err
	}
	return Payload{
		predicateType: st.PredicateType, subject: "sha256:" + st.Subject[0].SHA256,
		head: head.Bytes(), doc: doc, size: int64(head.Len()) + doc.Size() + int64(len(tail)),
	}, nil
}

// PredicateType is that of the statement.
func (p Payload) PredicateType() string { return p.predicateType }

// Subject is the digest of the first subject, sha256:<hex>.
func (p Payload) Subject() string { return p.subject }

// Size is the number of bytes.
func (p Payload) Size() int64 { return p.size }

// Reader reads it from the begin. Several readers can be used at once.
func (p Payload) Reader() io.Reader {
	if p.doc == nil {
		return bytes.NewReader(p.head)
	}
	return io.MultiReader(bytes.NewReader(p.head), io.NewSectionReader(p.doc, 0, p.doc.Size()), bytes.NewReader([]byte(tail)))
}

// Bytes is all of it in memory, of at most MaxStatement bytes.
func (p Payload) Bytes() ([]byte, error) {
	if p.doc == nil {
		return p.head, nil
	}
	if p.size > MaxStatement {
		return nil, fmt.Errorf("%w: statement of %d bytes exceeds the limit of %d where it has to be in memory", ErrTooLarge, p.size, MaxStatement)
	}
	raw := make([]byte, p.size)
	if _, err := io.ReadFull(p.Reader(), raw); err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	return raw, nil
}

// Digest is "sha256:" and the hex SHA-256 of the payload.
func (p Payload) Digest() (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, p.Reader()); err != nil {
		return "", fmt.Errorf("read the document: %w", err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// preamble is what a DSSE signature is of besides the payload: type and payload with
// their lengths (DSSE protocol.md).
func (p Payload) preamble() []byte { return preamble(p.size) }

func preamble(size int64) []byte {
	return fmt.Appendf(make([]byte, 0, 64), "DSSEv1 %d %s %d ", len(PayloadType), PayloadType, size)
}

// sum is the SHA-256 of what is signed.
func (p Payload) sum() ([]byte, error) {
	h := sha256.New()
	h.Write(p.preamble())
	if p.doc == nil {
		h.Write(p.head)
		return h.Sum(nil), nil
	}
	if _, err := io.Copy(h, p.Reader()); err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	return h.Sum(nil), nil
}

// mapped gives all of what is signed in one piece, without having it on the heap: a
// file that is mapped. Ed25519 reads its message twice.
func (p Payload) mapped(use func(message []byte)) error {
	const inMemory = 1 << 20
	message := spool.New(inMemory)
	defer message.Close()
	if _, err := io.Copy(message, io.MultiReader(bytes.NewReader(p.preamble()), p.Reader())); err != nil {
		return fmt.Errorf("copy the statement: %w", err)
	}
	raw, release, err := message.Map()
	if err != nil {
		return err
	}
	defer release()
	use(raw)
	return nil
}

// statement is what readers will find in the payload. Of a document it has no
// predicate, unless that may state a time.
func (p Payload) statement() (Statement, error) {
	if p.doc == nil {
		return ParseStatement(p.head)
	}
	if statesTime(p.predicateType) {
		raw, err := p.Bytes()
		if err != nil {
			return Statement{}, err
		}
		return ParseStatement(raw)
	}
	st, err := ParseStatement(slices.Concat(p.head, []byte("{}"+tail)))
	st.Predicate = nil
	return st, err
}

// statementUpToPredicate writes all of a statement before its predicate, into a
// buffer with room for more.
func statementUpToPredicate(st Statement, room int) (*bytes.Buffer, error) {
	if len(st.Subject) == 0 {
		return nil, malformed("statement without a subject", nil)
	}
	if len(st.Subject) > MaxSubjects {
		return nil, fmt.Errorf("%w: %d subjects", ErrTooLarge, len(st.Subject))
	}
	if err := checkPredicateType(st.PredicateType); err != nil {
		return nil, err
	}
	doc := statementHead{Type: StatementType, PredicateType: st.PredicateType}
	for _, s := range st.Subject {
		if !isSHA256(s.SHA256) {
			return nil, malformed("subject digest is not 64 lower-case hex digits", nil)
		}
		doc.Subject = append(doc.Subject, subjectJSON{Name: s.Name, Digest: map[string]string{"sha256": s.SHA256}})
	}
	var b bytes.Buffer
	b.Grow(room)
	enc := json.NewEncoder(&b)
	// Names and predicates reach readers as they are; nothing here is HTML.
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		return nil, malformed("statement", err)
	}
	// The predicate takes the place of the end.
	b.Truncate(b.Len() - len("}\n"))
	b.WriteString(`,"predicate":`)
	return &b, nil
}
