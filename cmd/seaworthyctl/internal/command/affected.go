package command

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	scannerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/scanner/v1"
)

func (s *session) affected() *cobra.Command {
	return &cobra.Command{
		Use:   "affected CVE|PURL",
		Short: "List the images that have a vulnerability or a package",
		Long: `Affected lists the images whose newest report has a vulnerability, by any id that it
is known by, or a package, by its package URL with or without version. It asks what
was scanned before and pulls nothing.

It exits with 0 if images were found, with 1 if none is affected, and with 5 if no
advisory in use has the id.`,
		Example: `  seaworthyctl affected CVE-2021-44228
  seaworthyctl affected pkg:maven/org.apache.logging.log4j/log4j-core
  seaworthyctl affected pkg:deb/debian/libssl3@3.0.11-1~deb12u1 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: s.run(func(ctx context.Context, args []string) error { return s.runAffected(ctx, args[0]) }),
	}
}

func (s *session) runAffected(ctx context.Context, what string) error {
	req := &scannerv1.ListAffectedImagesRequest{AdvisoryId: what, PageSize: pageSize}
	if strings.HasPrefix(what, "pkg:") {
		req.AdvisoryId, req.Purl = "", what
	}
	f, err := s.open()
	if err != nil {
		return err
	}
	client, err := f.Scanner()
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, defaultTimeout)
	defer cancel()
	all := &scannerv1.ListAffectedImagesResponse{}
	for {
		resp, err := client.ListAffectedImages(ctx, req)
		if err != nil {
			return err
		}
		all.Images = append(all.Images, resp.GetImages()...)
		all.Affected = append(all.Affected, resp.GetAffected()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if err := s.printAffected(what, all); err != nil {
		return err
	}
	if len(all.GetAffected()) == 0 {
		return &answerError{exitFail}
	}
	return nil
}

func (s *session) printAffected(what string, all *scannerv1.ListAffectedImagesResponse) error {
	if s.json() {
		return output.JSON(s.env.Out, all)
	}
	if len(all.GetAffected()) == 0 {
		s.notef("no image that was scanned has %s", what)
		return nil
	}
	t := output.NewTable(s.env.Out, "IMAGE", "DIGEST", "PACKAGE", "VERSION", "FIXED IN")
	for _, a := range all.GetAffected() {
		var names []string
		for _, i := range a.GetImages() {
			names = append(names, imageName(i))
		}
		image := strings.Join(names, ", ")
		for _, f := range a.GetFindings() {
			t.Row(image, a.GetImageDigest(), f.GetPackageName(), f.GetPackageVersion(), output.Cut(strings.Join(f.GetFixedVersions(), ", "), 40))
		}
		for _, p := range a.GetPackages() {
			t.Row(image, a.GetImageDigest(), p.GetName(), p.GetVersion(), "")
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	s.notef("%d images have %s", len(all.GetAffected()), what)
	return nil
}
