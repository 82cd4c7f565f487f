package sigstoretest

import (
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	prototrustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
)

// Sigstore is one that runs.
type Sigstore struct {
	*Issuer
	// SigningConfig and TrustedRoot are the files that describe it.
	SigningConfig, TrustedRoot string
	// Rekor is the process of the log; nil if there is none. It may be stopped and
	// continued by signals.
	Rekor *Process
	// Fulcio and Timestamp make the services in the process misbehave; nil if they
	// are real ones.
	Fulcio, Timestamp *Switch

	at    services
	ctURL string // empty if there is no certificate transparency log
	// rekorFiles is where the log keeps its checkpoint and tiles.
	rekorFiles string
}

// services are those of a Sigstore; empty ones do not exist.
type services struct {
	fulcio, rekor, timestamp string
	// chains have the leaf first and the root last.
	fulcioChain, timestampChain []*x509.Certificate
	log, ctLog                  *root.TransparencyLog
}

// describe writes both files.
func (s services) describe(tb testing.TB) (signingConfig, trustedRoot string) {
	tb.Helper()
	start := time.Now().Add(-time.Hour)
	one := func(url string, version uint32) []root.Service {
		if url == "" {
			return nil
		}
		return []root.Service{{URL: url, MajorAPIVersion: version, ValidityPeriodStart: start, Operator: "seaworthy.test"}}
	}
	either := root.ServiceConfiguration{Selector: prototrustroot.ServiceSelector_ANY}
	config, err := root.NewSigningConfig(root.SigningConfigMediaType02, one(s.fulcio, 1), nil, one(s.rekor, 2), either, one(s.timestamp, 1), either)
	if err != nil {
		tb.Fatal(err)
	}
	rawConfig, err := config.MarshalJSON()
	if err != nil {
		tb.Fatal(err)
	}
	var authorities []root.CertificateAuthority
	if n := len(s.fulcioChain); n > 0 {
		authorities = append(authorities, &root.FulcioCertificateAuthority{
			URI: s.fulcio, Root: s.fulcioChain[n-1], Intermediates: s.fulcioChain[:n-1], ValidityPeriodStart: start,
		})
	}
	var stampers []root.TimestampingAuthority
	if n := len(s.timestampChain); n > 0 {
		stampers = append(stampers, &root.SigstoreTimestampingAuthority{
			URI: s.timestamp, Leaf: s.timestampChain[0], Intermediates: s.timestampChain[1 : n-1], Root: s.timestampChain[n-1], ValidityPeriodStart: start,
		})
	}
	logs := func(l *root.TransparencyLog) map[string]*root.TransparencyLog {
		if l == nil {
			return nil
		}
		l.ValidityPeriodStart = start
		return map[string]*root.TransparencyLog{"log": l}
	}
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, authorities, logs(s.ctLog), stampers, logs(s.log))
	if err != nil {
		tb.Fatal(err)
	}
	rawRoot, err := trusted.MarshalJSON()
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	signingConfig, trustedRoot = filepath.Join(dir, "signing_config.json"), filepath.Join(dir, "trusted_root.json")
	write(tb, signingConfig, rawConfig)
	write(tb, trustedRoot, rawRoot)
	return signingConfig, trustedRoot
}
