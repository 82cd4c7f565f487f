//go:build !race

package advisory_test

const raceEnabled = false
