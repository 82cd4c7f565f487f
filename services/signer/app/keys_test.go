package app_test

import (
	"os"
	"testing"

	"google.golang.org/grpc/codes"

	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

// TestSigner_RotationThatCannotBeWritten: the operator is told what to do, nothing has
// changed, and the same request rotates when there is room. A directory that is gone
// takes no file whoever runs the test; that a full disk is the same to the key store
// its own tests show. Without the directory nothing is signed, because it may know of a
// revocation: so the test signs when it is back.
func TestSigner_RotationThatCannotBeWritten(t *testing.T) {
	f := newFleet(t)
	f.start()
	before := f.roots()
	admin := signerv1.NewKeyAdminServiceClient(f.dial(tlsx.OperatorID(eventbustest.TrustDomain, "admin")))
	rotate := &signerv1.RotateKeyRequest{RequestId: "0b0e2f7c-5d52-4b52-9d6f-3c1d5f7c9a02"}
	dir := f.cfg.Keystore.Dir
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := admin.RotateKey(t.Context(), rotate)
	wantCode(t, "rotate", err, codes.FailedPrecondition)
	if e := apierr.From(err); e.Reason() != "KEY_NOT_WRITTEN" {
		t.Errorf("%s: %s", e.Reason(), e.Message())
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if after := f.roots(); len(after.Keys) != 1 || after.Keys[0].ID != before.Keys[0].ID || !after.Keys[0].NotAfter.IsZero() {
		t.Errorf("the trust bundle changed: %v", after.Keys)
	}
	image := f.registry.PushImage("team/app")
	f.publish(events.Scanner, "1", f.scanned("scan-1", image, image))
	f.nextAttested()
	if n := len(f.registry.Attestations(image, before)); n != len(evidenceTypes) {
		t.Errorf("%d attestations by the key in use", n)
	}
	made, err := admin.RotateKey(t.Context(), rotate)
	if err != nil || f.roots().Keys[0].ID != made.GetKey().GetKeyId() {
		t.Errorf("rotate again = %v, %v", made, err)
	}
}
