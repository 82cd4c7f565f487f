package command_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
)

// fakeVex answers with the documents of the fake verifier, one a page.
type fakeVex struct {
	verifierv1.UnimplementedVexServiceServer
	verifier *fakeVerifier
}

func (e fakeVex) ImportVexDocument(_ context.Context, req *verifierv1.ImportVexDocumentRequest) (*verifierv1.ImportVexDocumentResponse, error) {
	e.verifier.record(req)
	return &verifierv1.ImportVexDocumentResponse{Document: &verifierv1.VexDocument{
		Digest: digestA, Author: "vendor", DocumentId: "https://vex.example/1", DocumentTime: at(-1), StatementCount: 7, ImportTime: at(0), Trusted: true,
	}}, e.verifier.err
}

func (e fakeVex) ListVexDocuments(_ context.Context, req *verifierv1.ListVexDocumentsRequest) (*verifierv1.ListVexDocumentsResponse, error) {
	i := len(req.GetPageToken())
	if i >= len(e.verifier.vex) {
		return &verifierv1.ListVexDocumentsResponse{}, e.verifier.err
	}
	r := &verifierv1.ListVexDocumentsResponse{Documents: e.verifier.vex[i : i+1]}
	if i+1 < len(e.verifier.vex) {
		r.NextPageToken = req.GetPageToken() + "x"
	}
	return r, e.verifier.err
}

func (e fakeVex) DeleteVexDocument(_ context.Context, req *verifierv1.DeleteVexDocumentRequest) (*verifierv1.DeleteVexDocumentResponse, error) {
	e.verifier.record(req)
	return &verifierv1.DeleteVexDocumentResponse{}, e.verifier.err
}

func TestVex(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	dir := t.TempDir()
	document, bundle := filepath.Join(dir, "d.json"), filepath.Join(dir, "d.json.sigstore.json")
	for name, content := range map[string]string{document: "doc", bundle: "bundle"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.golden("vex-import", f.run("vex", "import", document, "--bundle", bundle))
	want := &verifierv1.ImportVexDocumentRequest{Document: []byte("doc"), Bundle: []byte("bundle")}
	if d := cmp.Diff(want, f.verifier.asked(), protocmp.Transform()); d != "" {
		t.Errorf("request (-want +got):\n%s", d)
	}
	f.golden("vex-import-json", f.run("vex", "import", "--bundle", bundle, "-o", "json"))
	for _, args := range [][]string{{}, {document}, {document, document, "--bundle", bundle}} {
		if r := f.run(append([]string{"vex", "import"}, args...)...); r.code != 4 {
			t.Errorf("import %v: %+v", args, r)
		}
	}
	if r := f.run("vex", "import", "--bundle", filepath.Join(dir, "none")); r.code == 0 {
		t.Errorf("a file that is not there: %+v", r)
	}
	f.golden("vex-list-none", f.run("vex", "list"))
	f.verifier.vex = []*verifierv1.VexDocument{
		{Digest: digestA, Author: "vendor", DocumentId: "https://vex.example/1", DocumentTime: at(-1), StatementCount: 7, ImportTime: at(0), Trusted: true},
		{Digest: digestB, ImportTime: at(0)},
	}
	f.golden("vex-list", f.run("vex", "list"))
	if r := f.run("vex", "list", "-o", "json"); r.code != 0 {
		t.Errorf("as JSON: %+v", r)
	}
	f.golden("vex-delete", f.run("vex", "delete", digestA))
	if d := cmp.Diff(&verifierv1.DeleteVexDocumentRequest{Digest: digestA}, f.verifier.asked(), protocmp.Transform()); d != "" {
		t.Errorf("request (-want +got):\n%s", d)
	}
	if r := f.run("vex", "delete", "nonsense"); r.code != 4 {
		t.Errorf("delete nonsense: %+v", r)
	}
	f.verifier.err = apierr.New(codes.PermissionDenied, "VEX_AUTHOR_UNTRUSTED", "no author signed this document")
	if r := f.run("vex", "import", "--bundle", bundle); r.code == 0 {
		t.Errorf("by a stranger: %+v", r)
	}
}
