// Accuracy scans real images with `seaworthy scan` and, where they can be had, with
// syft and osv-scanner, compares inventories and findings, and prints tables in
// Markdown. Every difference must fall into a class that docs/accuracy.md explains;
// one that does not is printed, and fails the run. Arguments choose images.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
)

type runner struct {
	seaworthy, images, data, peers, work string
	out                                  io.Writer
	failed                               bool
}

func main() {
	r := &runner{out: os.Stdout}
	home, _ := os.UserHomeDir()
	flag.StringVar(&r.seaworthy, "seaworthy", "bin/seaworthy", "the program to measure")
	flag.StringVar(&r.images, "images", filepath.Join(home, ".cache/seaworthy-images"), "what tools/scripts/accuracy-images made")
	flag.StringVar(&r.data, "data", os.Getenv("SEAWORTHY_TESTDATA"), "folder with osv/<ecosystem>/all.zip")
	flag.StringVar(&r.peers, "peers", filepath.Join(home, ".cache/seaworthy-peers/bin"), "folder of syft and osv-scanner")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := r.run(ctx)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "accuracy:", err)
		os.Exit(1)
	}
}

var errDifferences = errors.New("there are differences that nothing explains")

func (r *runner) run(ctx context.Context) error {
	if r.data == "" {
		return errors.New("set SEAWORTHY_TESTDATA to a folder with osv/<ecosystem>/all.zip, as osv.dev publishes them")
	}
	var err error
	if r.work, err = os.MkdirTemp("", "accuracy-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	snapshot := filepath.Join(r.work, "osv.snapshot")
	if _, err := r.command(ctx, nil, r.seaworthy, "advisories", "build", "--output-file", snapshot, filepath.Join(r.data, "osv")); err != nil {
		return err
	}
	if err := r.linkOSV(); err != nil {
		return err
	}
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"debian", "npm", "go", "unowned", "mixed"}
	}
	for _, image := range names {
		if err := r.image(ctx, image, snapshot); err != nil {
			return fmt.Errorf("%s: %w", image, err)
		}
	}
	if r.failed {
		return errDifferences
	}
	return nil
}

func (r *runner) image(ctx context.Context, name, snapshot string) error {
	dir := filepath.Join(r.images, name)
	ours, err := r.ours(ctx, "oci:"+dir, snapshot)
	if err != nil {
		return err
	}
	r.printf("\n## %s\n\n%d packages, %d findings, %d problems.\n\n", name, len(ours.Packages), len(ours.Findings), len(ours.Problems))
	if err := r.readBack(ctx, dir, snapshot, ours); err != nil {
		return err
	}
	peers, err := r.peersOf(ctx, name, dir)
	if err != nil {
		return err
	}
	r.inventories(name, ours, peers)
	for _, p := range peers {
		if p.findings != nil {
			r.findings(name, ours, p)
		}
	}
	return nil
}

// readBack scans both bills of materials of an image.
func (r *runner) readBack(ctx context.Context, dir, snapshot string, want *report) error {
	for _, format := range []string{"spdx-json", "cyclonedx-json"} {
		file := filepath.Join(r.work, format)
		if _, err := r.command(ctx, nil, r.seaworthy, "scan", "-q", "-o", format, "--output-file", file, "oci:"+dir); err != nil {
			return err
		}
		got, err := r.ours(ctx, "sbom:"+file, snapshot)
		if err != nil {
			return err
		}
		if string(got.RawFindings) != string(want.RawFindings) {
			r.failed = true
			r.printf("**The findings of its %s document differ: %d, not %d.**\n\n", format, len(got.Findings), len(want.Findings))
			continue
		}
		r.printf("Its %s document read back: the same findings, byte for byte.\n\n", format)
	}
	return nil
}

func (r *runner) printf(format string, args ...any) { _, _ = fmt.Fprintf(r.out, format, args...) }
