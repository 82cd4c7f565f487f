// Package core holds the scanner's decisions: which manifests of an image are
// scanned, what a report consists of, what counts as a fault of the image and
// what as a fault of the moment. It knows no transport and no storage; what it
// needs of them are the small interfaces in engine.go.
package core
