// Package policy reads policy documents and turns them into rules that can be
// evaluated.
//
// A document is YAML of apiVersion seaworthy.dev/v1 and kind Policy; a file may
// hold several. Reading is strict: an unknown field, a duplicate name, an
// expression that does not type-check or that could cost too much is refused
// when the policy is loaded, with file, line and column, and nothing of a
// faulty set is put in force.
//
// Expressions are CEL over the variables that newEnv declares; docs/policies.md
// in this service's folder describes them for people who write policies.
package policy
