package attest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

func TestEnvelope(t *testing.T) {
	bundle := newKey(t, "p256").sign(t, testStatement())
	raw, keyed, err := Envelope(bundle)
	if err != nil || !keyed {
		t.Fatalf("Envelope() = %v, %v", keyed, err)
	}
	var e dsse.Envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	want, err := MarshalStatement(testStatement())
	if err != nil {
		t.Fatal(err)
	}
	if e.PayloadType != PayloadType || e.Payload != base64.StdEncoding.EncodeToString(want) || len(e.Signatures) != 1 {
		t.Errorf("envelope = %+v", e)
	}
	again, _, err := Envelope(bundle)
	if err != nil || string(again) != string(raw) {
		t.Error("the same bundle gave another envelope")
	}
	certified := toJSON(t, newSigstore(t).attested(t, testStatement(), true, time.Now()))
	if _, keyed, err := Envelope(certified); err != nil || keyed {
		t.Errorf("a certificate in an envelope: %v, %v", keyed, err)
	}
	if _, _, err := Envelope([]byte("{}")); !errors.Is(err, ErrMalformed) {
		t.Errorf("of no bundle: %v", err)
	}
}
