package attest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"testing"
)

// FuzzEnvelope varies the fields of the DSSE envelope in a bundle that is good but for
// it: a signature is good for the payload and type that it was made over, and for no
// others.
func FuzzEnvelope(f *testing.F) {
	k := newKey(f, "p256")
	var good struct {
		Envelope struct {
			Type       string `json:"payloadType"`
			Payload    []byte `json:"payload"`
			Signatures []struct {
				Sig []byte `json:"sig"`
			} `json:"signatures"`
		} `json:"dsseEnvelope"`
	}
	raw := k.sign(f, testStatement())
	if err := json.Unmarshal(raw, &good); err != nil {
		f.Fatal(err)
	}
	signed := good.Envelope
	f.Add(signed.Type, signed.Payload, signed.Signatures[0].Sig, "", 1)
	f.Add(signed.Type, signed.Payload, signed.Signatures[0].Sig, "key", 1)
	f.Add(signed.Type, signed.Payload, signed.Signatures[0].Sig, "", 2)
	f.Add(signed.Type, signed.Payload, []byte(nil), "", 0)
	f.Add("text/plain", signed.Payload, signed.Signatures[0].Sig, "", 1)
	// The lengths in what is signed keep type and payload apart.
	f.Add(signed.Type+" 2 {", signed.Payload[1:], signed.Signatures[0].Sig, "", 1)
	f.Add(signed.Type, append([]byte(" "), signed.Payload...), signed.Signatures[0].Sig, "", 1)
	f.Fuzz(func(t *testing.T, payloadType string, payload, sig []byte, keyID string, n int) {
		signatures := []any{}
		for range max(0, min(n, 4)) {
			signatures = append(signatures, map[string]any{"sig": base64.StdEncoding.EncodeToString(sig), "keyid": keyID})
		}
		varied := edit(t, raw, func(_, e map[string]any) {
			e["payloadType"], e["payload"], e["signatures"] = payloadType, base64.StdEncoding.EncodeToString(payload), signatures
		})
		v, err := Verify(varied, "sha256:"+testSum, k.trusted())
		if err != nil {
			if v != nil || Reason(err) == "" {
				t.Fatalf("%+v, error of no kind: %v", v, err)
			}
			return
		}
		// Each ECDSA signature has a twin that is as good, so sig may be another.
		if payloadType != signed.Type || !bytes.Equal(payload, signed.Payload) || len(signatures) != 1 {
			t.Fatalf("accepted: %q, %d signatures, %s", payloadType, len(signatures), payload)
		}
	})
}
