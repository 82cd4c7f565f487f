// Package command is the commands of seaworthyctl: what they take, what they
// print and how they end.
package command
