package keyless_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/guard"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keyless"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const subject = "signer@seaworthy.test"

var sum = strings.Repeat("ab", 32)

func payload(t *testing.T) attest.Payload {
	t.Helper()
	p, err := attest.NewPayload(statement())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func statement() attest.Statement {
	return attest.Statement{
		Subject:       []attest.Subject{{Name: "registry.example/app", SHA256: sum}},
		PredicateType: attest.PredicateVulnsV02, Predicate: json.RawMessage(`{"scanner":{"result":[]}}`),
	}
}

func open(t *testing.T, s *sigstoretest.Sigstore, change func(*sigstore.Config)) *sigstore.Client {
	t.Helper()
	l := guard.Limits{Timeout: 20 * time.Second, Attempts: 1, MaxFailures: 3, Cooldown: time.Hour}
	cfg := sigstore.Config{SigningConfig: s.SigningConfig, TrustedRoot: s.TrustedRoot, Fulcio: l, Rekor: l, Timestamp: l}
	if change != nil {
		change(&cfg)
	}
	c, err := sigstore.Open(cfg, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func settings(t *testing.T, s *sigstoretest.Sigstore) keyless.Config {
	t.Helper()
	return keyless.Config{
		Name: "ci", Issuer: s.URL, Subject: subject, Timestamp: true,
		Token: config.Secret{File: s.TokenFile(t, subject, time.Minute)},
	}
}

// check verifies as a reader who has nothing but the trusted root.
func check(t *testing.T, s *sigstoretest.Sigstore, b *attest.Bundle, log bool) {
	t.Helper()
	raw, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(s.TrustedRoot)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := attest.ParseSigstoreRoot(doc)
	if err != nil {
		t.Fatal(err)
	}
	whom := attest.TrustedIdentity{
		Issuer: s.URL, Subject: subject, RequireLog: log, RequireTimestamp: true, RequireSCT: trusted.HasCTLogs(),
	}
	roots := attest.TrustRoots{Sigstore: trusted, Identities: []attest.TrustedIdentity{whom}}
	v, err := attest.Verify(raw, "sha256:"+sum, roots)
	if err != nil {
		t.Fatal(err)
	}
	if v.Identity != subject || v.Issuer != s.URL || time.Since(v.SignTime).Abs() > time.Minute || (v.LogIndex != nil) != log {
		t.Errorf("%+v", v)
	}
}

func TestSign(t *testing.T) {
	s := sigstoretest.Small(t)
	i := keyless.New(settings(t, s), open(t, s, nil), time.Now)
	signed, err := i.Sign(t.Context(), payload(t))
	if err != nil {
		t.Fatal(err)
	}
	if signed.KeyID != subject || signed.ProvenTime.IsZero() || signed.LogIndex != nil {
		t.Errorf("%+v", signed)
	}
	check(t, s, signed.Bundle, false)
}

// A token may also stand in a variable of the environment.
func TestSignWithTokenOfTheEnvironment(t *testing.T) {
	s := sigstoretest.Small(t)
	cfg := settings(t, s)
	const variable = "SEAWORTHY_TEST_TOKEN"
	t.Setenv(variable, s.Token(t, subject, time.Minute))
	cfg.Token = config.Secret{Env: variable}
	signed, err := keyless.New(cfg, open(t, s, nil), time.Now).Sign(t.Context(), payload(t))
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, signed.Bundle, false)
}

func TestSignInRealSigstore(t *testing.T) {
	s := sigstoretest.Real(t)
	if !open(t, s, nil).Root().HasCTLogs() {
		t.Fatal("the trusted root names no certificate transparency log")
	}
	cfg := settings(t, s)
	cfg.Log = true
	i := keyless.New(cfg, open(t, s, nil), time.Now)
	for range 2 {
		signed, err := i.Sign(t.Context(), payload(t))
		if err != nil {
			t.Fatal(err)
		}
		if signed.KeyID != subject || signed.ProvenTime.IsZero() || signed.LogIndex == nil {
			t.Errorf("%+v", signed)
		}
		check(t, s, signed.Bundle, true)
	}
}

func TestSignRefuses(t *testing.T) {
	s, stranger := sigstoretest.Small(t), sigstoretest.Small(t)
	client := open(t, s, nil)
	file := func(text string) config.Secret {
		path := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return config.Secret{File: path}
	}
	for name, tc := range map[string]struct {
		change func(*keyless.Config)
		want   error
		says   string
	}{
		"expired token": {func(c *keyless.Config) { c.Token = config.Secret{File: s.TokenFile(t, subject, -time.Hour)} }, keyless.ErrToken, "expired at"},
		"missing file":  {func(c *keyless.Config) { c.Token = config.Secret{File: "/nowhere/token"} }, keyless.ErrToken, "/nowhere/token"},
		"missing variable": {func(c *keyless.Config) { c.Token = config.Secret{Env: "SEAWORTHY_NO_SUCH_TOKEN"} }, keyless.ErrToken,
			"SEAWORTHY_NO_SUCH_TOKEN"},
		"no token":       {func(c *keyless.Config) { c.Token = file("hello") }, keyless.ErrToken, "not a JSON web token"},
		"no base64":      {func(c *keyless.Config) { c.Token = file("a.!.c") }, keyless.ErrToken, "base64"},
		"no claims":      {func(c *keyless.Config) { c.Token = file("a.aGVsbG8.c") }, keyless.ErrToken, "claims"},
		"no expiry":      {func(c *keyless.Config) { c.Token = file("a.e30.c") }, keyless.ErrToken, "expires"},
		"too large":      {func(c *keyless.Config) { c.Token = file(strings.Repeat("x", 20<<10)) }, keyless.ErrToken, "bytes"},
		"another issuer": {func(c *keyless.Config) { c.Token = config.Secret{File: stranger.TokenFile(t, subject, time.Minute)} }, nil, "401"},
		"token of somebody else": {func(c *keyless.Config) {
			c.Token = config.Secret{File: s.TokenFile(t, "other@seaworthy.test", time.Minute)}
		}, attest.ErrUntrustedIdentity, "the token must be of the issuer and the subject"},
		"no log": {func(c *keyless.Config) { c.Log = true }, sigstore.ErrNoService, "transparency log"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := settings(t, s)
			tc.change(&cfg)
			signed, err := keyless.New(cfg, client, time.Now).Sign(t.Context(), payload(t))
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) || signed.Bundle != nil {
				t.Errorf("%v", err)
			}
			if strings.Contains(err.Error(), "eyJ") {
				t.Errorf("the token is in the error: %v", err)
			}
		})
	}
}

// The certificate authority's answer must be believed by readers, not just by itself.
func TestSignNeedsTheTrustedRoot(t *testing.T) {
	s, stranger := sigstoretest.Small(t), sigstoretest.Small(t)
	client := open(t, s, func(c *sigstore.Config) { c.TrustedRoot = stranger.TrustedRoot })
	if _, err := keyless.New(settings(t, s), client, time.Now).Sign(t.Context(), payload(t)); !errors.Is(err, attest.ErrUntrustedIdentity) {
		t.Error(err)
	}
}

// A trusted root that names certificate transparency logs has readers ask for a
// certificate that is in one: what is in none is not signed, and the error says what to do.
func TestSignNeedsTheCertificateLog(t *testing.T) {
	s := sigstoretest.Small(t) // gives certificates that are in none
	client := open(t, s, func(c *sigstore.Config) { c.TrustedRoot = s.NameStrangersCTLog(t) })
	i := keyless.New(settings(t, s), client, time.Now)
	if !i.Identity().RequireSCT {
		t.Error("readers are not told")
	}
	signed, err := i.Sign(t.Context(), payload(t))
	if !errors.Is(err, attest.ErrNoSCT) || signed.Bundle != nil {
		t.Fatalf("%+v, %v", signed, err)
	}
	for _, want := range []string{"sigstore.trusted_root", "--ct-log-url"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add("a.e30.c")
	f.Add("a.eyJleHAiOjF9.c")
	f.Add("..")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "token")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// Without a service behind it every token ends in an error, before or after it was read.
		i := keyless.New(keyless.Config{Token: config.Secret{File: path}, Timestamp: true}, nil, func() time.Time { return time.Unix(1<<41, 0) })
		if _, err := i.Sign(t.Context(), payload(t)); !errors.Is(err, keyless.ErrToken) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
