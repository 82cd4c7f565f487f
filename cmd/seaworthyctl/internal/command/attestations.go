package command

import (
	"context"
	"errors"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	"github.com/seaworthy-dev/seaworthy/cmd/seaworthyctl/internal/evidence"
	signerv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/signer/v1"
)

func (s *session) attestations() *cobra.Command {
	return &cobra.Command{
		Use:   "attestations IMAGE",
		Short: "List the attestations attached to an image and verify each",
		Long: `Attestations reads what is attached to the image from its registry, not from
the fleet's records, and verifies each against the keys of the signer's trust
bundle: that such a key signed it and that it is about this image. Of an index
those of its platforms are listed too. CREATED is what the attestation says;
PROVEN is when a timestamp authority or a log saw the signature, which a key alone
does not prove.

An attestation of somebody else's key is listed as UNTRUSTED_KEY and is no
error. One that claims a key of the fleet and is not signed with it, is about
another image or cannot be read ends the command with exit code 3.`,
		Example: `  seaworthyctl attestations shop/ledger:1.5.0
  seaworthyctl attestations shop/ledger@sha256:… -o json`,
		Args: oneImage,
		RunE: s.run(func(ctx context.Context, args []string) error { return s.runAttestations(ctx, args[0]) }),
	}
}

// attestationList is the output of attestations as JSON.
type attestationList struct {
	Image        string                 `json:"image"`
	Digest       string                 `json:"digest"`
	Attestations []evidence.Attestation `json:"attestations"`
}

func (s *session) runAttestations(ctx context.Context, arg string) error {
	f, err := s.open()
	if err != nil {
		return err
	}
	ref, err := image(f, arg)
	if err != nil {
		return err
	}
	signer, err := f.Attestations()
	if err != nil {
		return err
	}
	reg, err := f.Registry(ref)
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, defaultTimeout)
	defer cancel()
	bundle, err := signer.GetTrustBundle(ctx, &signerv1.GetTrustBundleRequest{})
	if err != nil {
		return err
	}
	roots, err := evidence.Roots(bundle, s.env.Now())
	if err != nil {
		return err
	}
	digest, list, err := evidence.Read(ctx, reg, ref, roots)
	if err != nil {
		return err
	}
	if err := s.printAttestations(attestationList{Image: ref.String(), Digest: digest, Attestations: list}); err != nil {
		return err
	}
	for _, a := range list {
		if a.Broken() {
			return errors.New("at least one attestation does not verify")
		}
	}
	return nil
}

func (s *session) printAttestations(l attestationList) error {
	if s.json() {
		return output.JSON(s.env.Out, l)
	}
	if len(l.Attestations) == 0 {
		s.notef("no attestations on %s (%s)", l.Image, l.Digest)
		return nil
	}
	t := output.NewTable(s.env.Out, "PREDICATE", "VERIFIED", "SIGNED BY", "CREATED", "PROVEN", "MANIFEST", "SUBJECT", "PLATFORM")
	for _, a := range l.Attestations {
		verified := "yes"
		if !a.Verified {
			verified = "no: " + a.Reason
		}
		t.Row(a.PredicateType, verified, signedBy(a.KeyID), output.Time(a.CreateTime), output.Time(a.SignTime),
			output.ShortDigest(a.ManifestDigest), output.ShortDigest(a.Subject), a.Platform)
	}
	return t.Flush()
}

// signedBy shortens the name of a key, which nobody reads, and not that of somebody.
func signedBy(id string) string {
	if keyID.MatchString(id) {
		return output.Cut(id, 17)
	}
	return id
}

// keyID is what attest.KeyID makes.
var keyID = regexp.MustCompile(`^[0-9a-f]{64}$`)
