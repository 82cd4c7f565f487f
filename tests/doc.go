// Package tests holds what can only be tested with several services at once: the
// way of a push end to end, faults in the middle of it, and interoperation with
// other programs.
package tests
