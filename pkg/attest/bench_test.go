package attest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/sigstore/pkg/signature"
)

// BenchmarkSign makes bundles of statements of several sizes. x-bare is how many
// are made in the time that bare ECDSA P-256 makes one signature of the same
// bytes, measured in the same run.
func BenchmarkSign(b *testing.B) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	signer, err := signature.LoadDefaultSigner(private)
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{1 << 10, 16 << 10, 256 << 10} {
		st := testStatement()
		st.Predicate = json.RawMessage(`{"findings":["` + strings.Repeat(`CVE-2022-32149","`, size/17) + `"]}`)
		payload, err := MarshalStatement(st)
		if err != nil {
			b.Fatal(err)
		}
		pae := dsse.PAE(PayloadType, payload)
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			var ours, bare time.Duration
			for b.Loop() {
				start := time.Now()
				if _, err := Sign(b.Context(), signer, private.Public(), st); err != nil {
					b.Fatal(err)
				}
				signed := time.Now()
				sum := sha256.Sum256(pae)
				if _, err := ecdsa.SignASN1(rand.Reader, private, sum[:]); err != nil {
					b.Fatal(err)
				}
				ours, bare = ours+signed.Sub(start), bare+time.Since(signed)
			}
			b.ReportMetric(float64(bare)/float64(ours), "x-bare")
		})
	}
}
