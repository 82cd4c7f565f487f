// Package attest makes, attaches, finds and verifies attestations.
//
// An attestation is an in-toto Statement v1 in a DSSE envelope with exactly one
// signature, in a Sigstore bundle v0.3, attached to an image as an OCI 1.1
// referrer. This is what cosign v3 writes and reads: `cosign verify-attestation
// --key` accepts ours, and Verify accepts what `cosign attest --key` writes (with
// a Statement v0.1 inside). Signatures with certificates are verified by who they
// are for, with the authorities of a Sigstore trusted root.
//
// Sources of the formats: in-toto/attestation spec/v1, secure-systems-lab/dsse
// protocol, sigstore/protobuf-specs sigstore_bundle.proto, cosign specs/BUNDLE_SPEC.md.
package attest
