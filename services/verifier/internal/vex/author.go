package vex

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

var (
	// ErrUntrusted says that no author whom the configuration names signed it.
	ErrUntrusted = errors.New("not signed by a trusted author")
	// ErrOurs says that it was made of an earlier verdict: whoever took it in would
	// let an exception outlive its end.
	ErrOurs = errors.New("it was made of the verifier's own exceptions")
)

// Author is somebody whose documents count.
type Author struct {
	Name  string
	Roots attest.TrustRoots
}

// Authors are those that the configuration names. They do not change.
type Authors []Author

// Verify returns the author who signed a bundle about a subject, at a time. The author is
// returned with an *attest.UnreadableError too.
func (all Authors) Verify(bundle []byte, subject string, now time.Time) (*attest.Verified, string, error) {
	var failures []error
	for _, a := range all {
		roots := a.Roots
		roots.At = now
		v, err := attest.Verify(bundle, subject, roots)
		if err == nil {
			if attest.IsPublishedException(v.Statement) {
				return nil, "", ErrOurs
			}
			return v, a.Name, nil
		}
		if errors.Is(err, attest.ErrFuture) {
			return nil, "", fmt.Errorf("%s: %w", a.Name, err)
		}
		if _, ok := errors.AsType[*attest.UnreadableError](err); ok {
			return nil, a.Name, err
		}
		failures = append(failures, fmt.Errorf("%s: %w", a.Name, err))
	}
	return nil, "", fmt.Errorf("%w: %w", ErrUntrusted, errors.Join(failures...))
}

// Believes tells whether an attached document that was verified once is believed still.
func (all Authors) Believes(d core.VexDocument, now time.Time) bool {
	for i := range d.Statements {
		if d.Statements[i].Time.After(now.Add(attest.ClockSkew)) {
			return false
		}
	}
	for _, a := range all {
		roots := a.Roots
		roots.At = now
		if a.Name == d.Author && roots.Believes(d.KeyID, attest.PredicateOpenVEX, d.DocumentTime) {
			return true
		}
	}
	return false
}

// Imported is a verified document.
type Imported struct {
	Document
	// Digest of the document's content.
	Digest string
	// TrustedAuthor is who signed it, as the configuration names them.
	TrustedAuthor string
	KeyID         string
}

// Import verifies and reads a document. The bundle is a Sigstore bundle of an
// in-toto statement. With a document the statement is about its SHA-256, as `cosign
// attest-blob` makes it; without one the document is the statement's predicate.
func (all Authors) Import(document, bundle []byte, now time.Time) (Imported, error) {
	st, err := attest.Untrusted(bundle)
	if err != nil {
		return Imported{}, fmt.Errorf("%w: bundle: %w", ErrMalformed, err)
	}
	subject := Digest(document)
	if len(document) == 0 {
		if st.PredicateType != attest.PredicateOpenVEX {
			return Imported{}, fmt.Errorf("%w: the bundle is of the type %.100q and there is no document beside it", ErrMalformed, st.PredicateType)
		}
		subject = "sha256:" + st.Subject[0].SHA256
	}
	v, author, err := all.Verify(bundle, subject, now)
	if err != nil {
		return Imported{}, err
	}
	if len(document) == 0 {
		document = v.Predicate
	} else if ours(document) {
		return Imported{}, ErrOurs
	}
	// The bundle's statement is about the document: its own times were not looked at yet.
	if err := attest.CheckTime(attest.Statement{PredicateType: attest.PredicateOpenVEX, Predicate: document}, now); errors.Is(err, attest.ErrFuture) {
		return Imported{}, err
	}
	d, err := Parse(document)
	if err != nil {
		return Imported{}, err
	}
	if err := d.unmatchable(); err != nil {
		return Imported{}, err
	}
	if !v.SignTime.IsZero() && d.latest().After(v.SignTime.Add(attest.ClockSkew)) {
		return Imported{}, fmt.Errorf("%w: the document is of after its signature", attest.ErrFuture)
	}
	d.NotAfter(v.SignTime)
	return Imported{Document: d, Digest: Digest(document), TrustedAuthor: author, KeyID: v.KeyID}, nil
}

func ours(document []byte) bool {
	return attest.IsPublishedException(attest.Statement{PredicateType: attest.PredicateOpenVEX, Predicate: document})
}

// Record is the part that images are judged by, in the form that is kept with
// verdicts, named by its SHA-256.
func (i *Imported) Record() (core.VexDocument, []byte, error) {
	d := core.VexDocument{Author: i.TrustedAuthor, Statements: i.Statements}
	body, err := json.Marshal(d)
	if err != nil {
		return core.VexDocument{}, nil, fmt.Errorf("encode VEX document: %w", err)
	}
	d.Digest = Digest(body)
	return d, body, nil
}

// Recorded reads that form.
func Recorded(body []byte) (core.VexDocument, error) {
	var d core.VexDocument
	if err := json.Unmarshal(body, &d); err != nil {
		return core.VexDocument{}, fmt.Errorf("decode VEX document: %w", err)
	}
	d.Digest = Digest(body)
	return d, nil
}
