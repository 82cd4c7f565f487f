package server

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/affected"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/wire"
)

// Affected finds images by what is in them.
type Affected interface {
	ByAdvisory(ctx context.Context, id, from string, n int) ([]affected.Image, string, error)
	ByPURL(ctx context.Context, purl, from string, n int) ([]affected.Image, string, error)
}

// ListAffectedImages implements the RPC. A page token is the digest of the image that
// the next page begins with.
func (s *scanner) ListAffectedImages(ctx context.Context, req *scannerv1.ListAffectedImagesRequest) (*scannerv1.ListAffectedImagesResponse, error) {
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	id, purl := req.GetAdvisoryId(), req.GetPurl()
	if (id == "") == (purl == "") {
		return nil, apierr.InvalidField("advisory_id", "give either advisory_id or purl")
	}
	query := "affected\x00" + id + "\x00" + purl
	from, err := page.Decode(query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	var images []affected.Image
	var next string
	if id != "" {
		images, next, err = s.Affected.ByAdvisory(ctx, id, from, size)
	} else {
		images, next, err = s.Affected.ByPURL(ctx, purl, from, size)
	}
	if err != nil {
		return nil, affectedError(err)
	}
	out := &scannerv1.ListAffectedImagesResponse{}
	for _, i := range images {
		m := &scannerv1.AffectedImage{ImageDigest: i.Digest, Findings: i.Findings, Packages: i.Packages}
		for _, p := range i.Places {
			m.Images = append(m.Images, wire.Image(p))
		}
		out.Affected = append(out.Affected, m)
	}
	if fits := page.Fit(out.GetAffected(), size); fits < len(images) {
		out.Affected = out.GetAffected()[:fits]
		next = images[fits].Digest
	}
	if next != "" {
		out.NextPageToken = page.Encode(query, next)
	}
	seen := map[imageref.Ref]bool{}
	for i := range out.GetAffected() {
		for n, p := range images[i].Places {
			if !seen[p] {
				seen[p] = true
				out.Images = append(out.Images, out.GetAffected()[i].GetImages()[n])
			}
		}
	}
	return out, nil
}

func affectedError(err error) error {
	switch {
	case errors.Is(err, affected.ErrNoSnapshot):
		return apierr.New(codes.NotFound, core.ReasonNoSnapshot, err.Error())
	case errors.Is(err, affected.ErrUnknown):
		return apierr.New(codes.NotFound, "ADVISORY_NOT_FOUND", "no advisory of the snapshot in use has this id or names it")
	case errors.Is(err, affected.ErrPURL):
		return apierr.InvalidField("purl", err.Error())
	}
	return err
}
