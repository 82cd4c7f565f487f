//go:build !linux

package cli

// dropStartup does nothing: how a program gives its own pages back is a matter of Linux.
func dropStartup() {}
