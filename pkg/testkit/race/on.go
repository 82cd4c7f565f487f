//go:build race

// Package race tells tests whether the race detector is on: it takes several times
// the memory and the time that some of them measure.
package race

// Enabled is true under the race detector.
const Enabled = true
