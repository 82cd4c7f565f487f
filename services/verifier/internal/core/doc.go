// Package core decides whether an image may run.
//
// It is pure: verified evidence, policies and a time go in, a verdict comes
// out, and the same inputs always give the same verdict. It knows neither
// registries nor events nor SQL, and it never judges evidence that nobody
// verified: package evidence does that before.
package core
