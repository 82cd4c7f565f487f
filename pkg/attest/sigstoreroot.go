package attest

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	prototrustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

// Limits of a SigstoreRoot.
const (
	// MaxSigstoreRoot is the largest `trusted_root.json`, in bytes.
	MaxSigstoreRoot = 1 << 20
	// MaxAuthorities is the largest number of authorities and logs in all of them.
	MaxAuthorities = 128
)

// ErrBadTrustedRoot says that a document is not a usable Sigstore trusted root.
var ErrBadTrustedRoot = errors.New("not a usable Sigstore trusted root")

// SigstoreRoot names the authorities behind certificates, timestamps and
// transparency logs. It is made by ParseSigstoreRoot and does not change.
type SigstoreRoot struct {
	material root.TrustedMaterialCollection
	sum      string
}

// ParseSigstoreRoot reads one or more Sigstore trusted roots, `trusted_root.json`,
// and believes the authorities of all of them. A document may hold several roots, one
// after the other, as `gh attestation trusted-root` writes them, one a line. Errors
// wrap ErrBadTrustedRoot.
func ParseSigstoreRoot(documents ...[]byte) (*SigstoreRoot, error) {
	var all root.TrustedMaterialCollection
	count := 0
	h := sha256.New()
	var roots []json.RawMessage
	for _, raw := range documents {
		if len(raw) > MaxSigstoreRoot {
			return nil, fmt.Errorf("%w: %d bytes exceeds the limit of %d", ErrBadTrustedRoot, len(raw), MaxSigstoreRoot)
		}
		one, err := split(raw)
		if err != nil {
			return nil, err
		}
		roots = append(roots, one...)
	}
	for _, raw := range roots {
		if err := strictjson.CheckMessage(raw, new(prototrustroot.TrustedRoot)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadTrustedRoot, err)
		}
		message, err := root.NewTrustedRootProtobuf(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadTrustedRoot, err)
		}
		count += len(message.GetTlogs()) + len(message.GetCtlogs()) +
			len(message.GetCertificateAuthorities()) + len(message.GetTimestampAuthorities())
		if count > MaxAuthorities {
			return nil, fmt.Errorf("%w: %d authorities and logs, the limit is %d", ErrBadTrustedRoot, count, MaxAuthorities)
		}
		if err := checkChains(message); err != nil {
			return nil, err
		}
		one, err := root.NewTrustedRootFromProtobuf(message)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadTrustedRoot, err)
		}
		all = append(all, one)
		_ = binary.Write(h, binary.BigEndian, int64(len(raw)))
		h.Write(raw)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrBadTrustedRoot)
	}
	return &SigstoreRoot{material: all, sum: hex.EncodeToString(h.Sum(nil))}, nil
}

// split separates the roots of a document.
func split(raw []byte) ([]json.RawMessage, error) {
	var out []json.RawMessage
	for dec := json.NewDecoder(bytes.NewReader(raw)); ; {
		var one json.RawMessage
		err := dec.Decode(&one)
		switch {
		case errors.Is(err, io.EOF) && len(out) > 0:
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("%w: not JSON: %w", ErrBadTrustedRoot, err)
		case len(out) == MaxAuthorities:
			return nil, fmt.Errorf("%w: more than %d roots", ErrBadTrustedRoot, MaxAuthorities)
		}
		out = append(out, one)
	}
}

// Digest is equal for roots of the same documents; empty for nil.
func (r *SigstoreRoot) Digest() string {
	if r == nil {
		return ""
	}
	return r.sum
}

// wantsSCT says whether a certificate has to be in a certificate transparency log: one
// of the trusted roots that name its authority names such a log.
func (r *SigstoreRoot) wantsSCT(leaf *x509.Certificate) bool {
	return slices.ContainsFunc(r.material, func(m root.TrustedMaterial) bool {
		if len(m.CTLogs()) == 0 {
			return false
		}
		_, err := verify.VerifyLeafCertificate(leaf.NotBefore, leaf, m)
		return err == nil
	})
}

// checkChains finds what sigstore-go trips over.
func checkChains(message *prototrustroot.TrustedRoot) error {
	for _, ca := range slices.Concat(message.GetCertificateAuthorities(), message.GetTimestampAuthorities()) {
		if slices.Contains(ca.GetCertChain().GetCertificates(), nil) {
			return fmt.Errorf("%w: certificate chain of %.100q with nothing in it", ErrBadTrustedRoot, ca.GetUri())
		}
	}
	return nil
}

// Authorities says how many authorities of each kind there are.
func (r *SigstoreRoot) Authorities() (certificate, timestamp, logs int) {
	if r == nil {
		return 0, 0, 0
	}
	return len(r.material.FulcioCertificateAuthorities()), len(r.material.TimestampingAuthorities()), len(r.material.RekorLogs())
}

// Logs are the transparency logs, by the ID of their key in hex. They are not to be
// changed.
func (r *SigstoreRoot) Logs() map[string]*root.TransparencyLog {
	if r == nil {
		return nil
	}
	return r.material.RekorLogs()
}

// HasCTLogs says whether there is a certificate transparency log, so that readers can
// ask for certificates that stand in one.
func (r *SigstoreRoot) HasCTLogs() bool { return r != nil && len(r.material.CTLogs()) > 0 }

// with is the material of r, if there is any, and that of a key.
func (r *SigstoreRoot) with(key root.TrustedMaterial) root.TrustedMaterial {
	if r == nil {
		return key
	}
	return root.TrustedMaterialCollection{key, r.material}
}

// knowsLog says whether a log's entries can be verified.
func (r *SigstoreRoot) knowsLog(keyID string) bool {
	_, ok := r.Logs()[hex.EncodeToString([]byte(keyID))]
	return ok
}
