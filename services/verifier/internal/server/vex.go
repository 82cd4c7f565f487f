package server

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/vex"
)

// Reasons of errors.
const (
	ReasonVexAuthorUntrusted  = "VEX_AUTHOR_UNTRUSTED"
	ReasonVexOwnDocument      = "VEX_OWN_DOCUMENT"
	ReasonVexInFuture         = "VEX_IN_FUTURE"
	ReasonVexDocumentNotFound = "VEX_DOCUMENT_NOT_FOUND"
	ReasonVexDocumentFromFile = "VEX_DOCUMENT_FROM_FILE"
	ReasonTooManyVexDocuments = "TOO_MANY_VEX_DOCUMENTS"
)

// maxBundle is the size of a bundle that is imported, in bytes: that of a document in
// base64, and what is around it.
const maxBundle = 2 * vex.MaxDocument

// Vex implements VexService.
type Vex struct {
	verifierv1.UnimplementedVexServiceServer

	store   store.Store
	authors vex.Authors
	auditor Auditor
}

// NewVex returns the service.
func NewVex(s store.Store, authors vex.Authors, a Auditor) *Vex {
	return &Vex{store: s, authors: authors, auditor: a}
}

// ImportVexDocument implements VexService.
func (s *Vex) ImportVexDocument(ctx context.Context, req *verifierv1.ImportVexDocumentRequest) (*verifierv1.ImportVexDocumentResponse, error) {
	switch {
	case len(req.GetBundle()) == 0:
		return nil, apierr.InvalidField("bundle", "a document counts by its signature: a Sigstore bundle is needed")
	case len(req.GetBundle()) > maxBundle:
		return nil, apierr.InvalidField("bundle", "it is larger than 16 MiB")
	case len(req.GetDocument()) > vex.MaxDocument:
		return nil, apierr.InvalidField("document", "it is larger than 8 MiB")
	}
	d, err := s.authors.Import(req.GetDocument(), req.GetBundle(), s.auditor.Now())
	switch {
	case errors.Is(err, vex.ErrMalformed):
		return nil, apierr.InvalidField("document", err.Error())
	case errors.Is(err, vex.ErrOurs):
		return nil, apierr.New(codes.FailedPrecondition, ReasonVexOwnDocument, "the document was made of the verifier's own exceptions; they count already").WithCause(err)
	case errors.Is(err, attest.ErrFuture):
		return nil, apierr.New(codes.FailedPrecondition, ReasonVexInFuture,
			"the document is dated in the future: import it when its time has come, and check the clock of its author").WithCause(err)
	case errors.Is(err, vex.ErrUntrusted):
		return nil, apierr.New(codes.PermissionDenied, ReasonVexAuthorUntrusted,
			"no author that the verifier's configuration names under vex.authors signed this document").WithCause(err)
	case err != nil:
		return nil, err
	}
	kept, err := s.store.ImportVex(ctx,
		store.Vex{Digest: d.Digest, Document: req.GetDocument(), Bundle: req.GetBundle(), ImportTime: s.auditor.Now()},
		store.VexLimits{Documents: vex.MaxDocuments, Bytes: vex.MaxBytes},
		store.Cause{Kind: core.CauseVex, Detail: "VEX document " + d.Digest + " of " + d.TrustedAuthor + " was imported"},
		s.auditor.By(ctx, verifierv1.VexService_ImportVexDocument_FullMethodName))
	if errors.Is(err, store.ErrTooMany) {
		return nil, apierr.Newf(codes.ResourceExhausted, ReasonTooManyVexDocuments,
			"there may be %d documents of %d MiB together; delete some", vex.MaxDocuments, vex.MaxBytes>>20)
	}
	if err != nil {
		return nil, err
	}
	return &verifierv1.ImportVexDocumentResponse{Document: s.message(kept)}, nil
}

// message verifies the document anew: whether it counts is part of the answer.
func (s *Vex) message(v store.Vex) *verifierv1.VexDocument {
	m := &verifierv1.VexDocument{Digest: v.Digest, ImportTime: timestamppb.New(v.ImportTime)}
	d, err := s.authors.Import(v.Document, v.Bundle, s.auditor.Now())
	if err != nil {
		return m
	}
	m.Trusted, m.Author, m.DocumentId, m.StatementCount = true, d.TrustedAuthor, d.ID, int32(len(d.Statements))
	if !d.Time.IsZero() {
		m.DocumentTime = timestamppb.New(d.Time)
	}
	return m
}

// ListVexDocuments implements VexService.
func (s *Vex) ListVexDocuments(ctx context.Context, req *verifierv1.ListVexDocumentsRequest) (*verifierv1.ListVexDocumentsResponse, error) {
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := page.Decode("vex", req.GetPageToken())
	if err != nil {
		return nil, err
	}
	all, err := s.store.VexDocuments(ctx, after, size+1)
	if err != nil {
		return nil, err
	}
	out := &verifierv1.ListVexDocumentsResponse{}
	for _, v := range all[:min(size, len(all))] {
		out.Documents = append(out.Documents, s.message(v))
	}
	if fits := page.Fit(out.GetDocuments(), size); fits < len(all) {
		out.Documents = out.GetDocuments()[:fits]
		out.NextPageToken = page.Encode("vex", all[fits-1].Digest)
	}
	return out, nil
}

// DeleteVexDocument implements VexService.
func (s *Vex) DeleteVexDocument(ctx context.Context, req *verifierv1.DeleteVexDocumentRequest) (*verifierv1.DeleteVexDocumentResponse, error) {
	if err := imageref.CheckDigest(req.GetDigest()); err != nil {
		return nil, apierr.InvalidField("digest", err.Error())
	}
	err := s.store.DeleteVex(ctx, req.GetDigest(), store.Cause{Kind: core.CauseVex, Detail: "VEX document " + req.GetDigest() + " was deleted"},
		s.auditor.By(ctx, verifierv1.VexService_DeleteVexDocument_FullMethodName))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, apierr.New(codes.NotFound, ReasonVexDocumentNotFound, "no imported document with that digest")
	case errors.Is(err, store.ErrFromFile):
		return nil, apierr.New(codes.FailedPrecondition, ReasonVexDocumentFromFile, "the document comes from a file of the verifier; take it out there")
	case err != nil:
		return nil, err
	}
	return &verifierv1.DeleteVexDocumentResponse{}, nil
}
