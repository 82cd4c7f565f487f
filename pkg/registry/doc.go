// Package registry is the only way of Seaworthy to an OCI registry.
//
// It reads manifests, blobs and referrers and writes referrers, and it keeps
// these promises: a registry that is not configured is refused before any
// network use; every byte that is returned was checked against its digest;
// everything that is read has a size limit; temporary failures are retried with
// backoff, jitter and the registry's own Retry-After, never past the caller's
// deadline; the number and the rate of requests per registry are bounded; errors
// say what kind they are and keep the registry's own words.
//
// Formats: OCI distribution specification 1.1 (referrers API, referrers tag
// schema) and OCI image specification 1.1. Authentication, including the token
// flow, is go-containerregistry's.
package registry
