package server

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/page"
	"github.com/seaworthy-dev/seaworthy/services/scanner/internal/store"
)

// ListFindings implements the RPC. A page token names the scan it pages through,
// so that a newer scan in between neither repeats nor skips findings.
func (s *scanner) ListFindings(ctx context.Context, req *scannerv1.ListFindingsRequest) (*scannerv1.ListFindingsResponse, error) {
	size, err := page.CheckSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	if req.GetImage() == nil {
		return nil, apierr.InvalidField("image", "must be given")
	}
	i := req.GetImage()
	query := strings.Join([]string{
		"findings", i.GetRegistry(), i.GetRepository(), i.GetTag(), i.GetDigest(), req.GetMinSeverity().String(),
	}, "\x00")
	key, err := page.Decode(query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	var sc store.Scan
	offset := 0
	if key == "" {
		sc, err = s.newest(ctx, i, true)
	} else {
		id, at, _ := strings.Cut(key, " ")
		if offset, err = strconv.Atoi(at); err != nil || offset < 0 {
			return nil, apierr.InvalidField("page_token", "is not a token of this list")
		}
		sc, err = s.Store.Scan(ctx, id)
	}
	if err != nil {
		return nil, notFound(err)
	}
	findings, err := s.findings(ctx, sc, req.GetMinSeverity())
	if err != nil {
		return nil, err
	}
	offset = min(offset, len(findings))
	end := offset + page.Fit(findings[offset:], size)
	out := &scannerv1.ListFindingsResponse{Findings: findings[offset:end], ImageDigest: sc.Image.Digest}
	if end < len(findings) {
		out.NextPageToken = page.Encode(query, sc.ID+" "+strconv.Itoa(end))
	}
	return out, nil
}

func (s *scanner) findings(ctx context.Context, sc store.Scan, lowest typev1.Severity) ([]*scannerv1.Finding, error) {
	var out []*scannerv1.Finding
	for _, ref := range sc.Reports {
		r, err := s.Reports.Report(ctx, ref.ReportDigest)
		if err != nil {
			return nil, err
		}
		for _, f := range r.GetFindings() {
			if f.GetSeverity() >= lowest {
				out = append(out, f)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b *scannerv1.Finding) int {
		return cmp.Or(
			cmp.Compare(b.GetSeverity(), a.GetSeverity()), cmp.Compare(b.GetCvssScore(), a.GetCvssScore()),
			cmp.Compare(a.GetId(), b.GetId()), cmp.Compare(a.GetPurl(), b.GetPurl()), cmp.Compare(a.GetLocation(), b.GetLocation()),
		)
	})
	return out, nil
}
