// Package vex reads OpenVEX documents of trusted authors and verifies who signed
// them.
//
// A document says which vulnerabilities do not affect which products. It counts only
// if an author whom the configuration names signed it; what it changes is decided by
// package core.
package vex
