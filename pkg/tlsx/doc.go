// Package tlsx gives every process of a fleet its mutual TLS: the private CA
// that issues certificates, the source that holds a process's own certificate
// and reloads it when the files change, and the check of who the peer is.
//
// A peer is identified by the SPIFFE ID in the URI SAN of its certificate,
// never by a host name: addresses change, identities do not. TLS 1.3 is the
// only version spoken, and a connection without a certificate of the fleet's CA
// on both sides does not come about.
package tlsx
