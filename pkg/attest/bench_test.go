package attest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/sigstore/pkg/signature"
)

// BenchmarkSign signs statements of several sizes. x-bare is how many are signed in
// the time that bare ECDSA P-256 makes one signature of the same bytes, hash included;
// written-x-bare is the same with the JSON of the bundle and its digest, which the
// registry is sent, and built-x-bare with the statement's making as well: its
// predicate checked and freed of spaces. All are measured in the same run, in turns.
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
		p, err := NewPayload(st)
		if err != nil {
			b.Fatal(err)
		}
		raw, err := p.Bytes()
		if err != nil {
			b.Fatal(err)
		}
		pae := dsse.PAE(PayloadType, raw)
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			var built, signed, written, bare time.Duration
			for b.Loop() {
				start := time.Now()
				p, err := NewPayload(st)
				if err != nil {
					b.Fatal(err)
				}
				made := time.Now()
				bundle, err := SignPayload(b.Context(), signer, private.Public(), p)
				if err != nil {
					b.Fatal(err)
				}
				done := time.Now()
				if _, err := bundle.Digest(); err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, bundle.Reader()); err != nil {
					b.Fatal(err)
				}
				encoded := time.Now()
				sum := sha256.Sum256(pae)
				if _, err := ecdsa.SignASN1(rand.Reader, private, sum[:]); err != nil {
					b.Fatal(err)
				}
				bare += time.Since(encoded)
				built, signed, written = built+encoded.Sub(start), signed+done.Sub(made), written+encoded.Sub(made)
			}
			b.ReportMetric(float64(bare)/float64(signed), "x-bare")
			b.ReportMetric(float64(bare)/float64(written), "written-x-bare")
			b.ReportMetric(float64(bare)/float64(built), "built-x-bare")
			b.ReportMetric(float64(b.N)/signed.Seconds(), "statements/s")
		})
	}
}
