package webhook

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// The vectors are those that the Standard Webhooks project publishes with its
// reference libraries (libraries/go: TestWebhookSign, TestAsymmetricWebhookSign).
const (
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorBody      = `{"test": 2432232314}`
	vectorTimestamp = 1614265330
)

func TestSign_publishedVectors(t *testing.T) {
	for name, tt := range map[string]struct {
		parse     func(string) (Signer, error)
		key, want string
	}{
		"v1": {
			ParseSecret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
			"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
		},
		"v1a": {
			ParsePrivateKey, "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=",
			"v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := tt.parse(tt.key + "\n") // files end with a line break
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Sign(vectorID, time.Unix(vectorTimestamp, 999), []byte(vectorBody)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestParseKeys_refused(t *testing.T) {
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for name, tt := range map[string]struct {
		parse func(string) (Signer, error)
		key   string
	}{
		"no prefix":        {ParseSecret, b64(24)},
		"private as hmac":  {ParseSecret, "whsk_" + b64(32)},
		"short":            {ParseSecret, "whsec_" + b64(23)},
		"long":             {ParseSecret, "whsec_" + b64(65)},
		"not base64":       {ParseSecret, "whsec_hunter2!"},
		"secret as key":    {ParsePrivateKey, "whsec_" + b64(32)},
		"public as key":    {ParsePrivateKey, "whpk_" + b64(32)},
		"wrong length":     {ParsePrivateKey, "whsk_" + b64(33)},
		"halves not a key": {ParsePrivateKey, "whsk_" + b64(64)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tt.parse(tt.key)
			if err == nil {
				t.Fatal("no error")
			}
			if _, secret, _ := strings.Cut(tt.key, "_"); secret != "" && strings.Contains(err.Error(), secret) {
				t.Error("the error shows the key")
			}
		})
	}
}

func TestParsePrivateKey_bothHalves(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	s, err := ParsePrivateKey("whsk_" + base64.StdEncoding.EncodeToString(key))
	if err != nil {
		t.Fatal(err)
	}
	if want := "whpk_" + base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey)); PublicKey(s) != want {
		t.Errorf("public key %s, want %s", PublicKey(s), want)
	}
	signature, _ := strings.CutPrefix(s.Sign("id", time.Unix(5, 0), []byte("body")), "v1a,")
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || !ed25519.Verify(key.Public().(ed25519.PublicKey), []byte("id.5.body"), raw) {
		t.Errorf("signature does not verify: %v", err)
	}
}
