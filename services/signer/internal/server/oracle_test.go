package server_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/server"
)

// TestNoRPCSigns: nobody can hand the signer anything to sign. Its RPCs are these, and
// all that they take are names, digests, identifiers and pages.
func TestNoRPCSigns(t *testing.T) {
	allowed := map[string][]string{
		"/seaworthy.signer.v1.AttestationService/ListAttestations": {
			"image.registry", "image.repository", "image.tag", "image.digest", "page_size", "page_token",
		},
		"/seaworthy.signer.v1.AttestationService/GetTrustBundle": nil,
		"/seaworthy.signer.v1.KeyAdminService/ListKeys":          nil,
		"/seaworthy.signer.v1.KeyAdminService/RotateKey":         {"request_id"},
		"/seaworthy.signer.v1.KeyAdminService/RevokeKey":         {"key_id"},
	}
	got := map[string][]string{}
	for _, file := range []protoreflect.FileDescriptor{
		signerv1.File_seaworthy_signer_v1_attestation_service_proto, signerv1.File_seaworthy_signer_v1_key_admin_service_proto,
	} {
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				got["/"+string(s.FullName())+"/"+string(m.Name())] = fields(m.Input(), "")
			}
		}
	}
	if diff := cmp.Diff(allowed, got); diff != "" {
		t.Errorf("RPCs and what they take (-allowed +got):\n%s", diff)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(allowed)), slices.Sorted(maps.Keys(server.Authz))); diff != "" {
		t.Errorf("rules (-RPCs +table):\n%s", diff)
	}
}

func fields(m protoreflect.MessageDescriptor, prefix string) []string {
	var out []string
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if f.Kind() == protoreflect.MessageKind {
			out = append(out, fields(f.Message(), prefix+string(f.Name())+".")...)
			continue
		}
		out = append(out, prefix+string(f.Name()))
	}
	return out
}
