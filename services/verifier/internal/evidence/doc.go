// Package evidence finds out what can be believed about an image.
//
// It reads the image's manifests and the attestations attached to them from the
// registry and keeps what verifies against the trust roots: signature, key,
// subject, predicate. Events and database rows are no evidence; they only say
// that it is time to look.
package evidence
