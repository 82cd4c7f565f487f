// Package core decides what the signer says about an image: it checks what was
// fetched against what an event promised and builds the predicates. It is pure:
// no clock, no network, no storage. The same inputs give the same bytes, so a
// message that is delivered twice leads to the same statements.
package core
