// Package trust knows whose signatures are evidence: keys from configuration
// files and, if a signer is configured, the keys of its trust bundle.
//
// The bundle is fetched over mutual TLS, refreshed in the background, and the
// last good one is kept in the database, so that verdicts are reached while the
// signer is down. A bundle that is empty or malformed never replaces a good one.
package trust
