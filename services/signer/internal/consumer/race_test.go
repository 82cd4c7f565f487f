//go:build race

package consumer_test

const raceDetector = true
