// Package linediff compares texts line by line.
package linediff

import (
	"slices"
	"strings"
)

const (
	// maxLines bounds the lines that differ at all; longer parts are shown as replaced.
	maxLines = 2000
	// context is the number of equal lines around a change.
	context = 3
)

// Lines returns what changes from one text to another: lines of both with "-", "+" or
// a space in front, a few equal ones around each change, and "…" where some are left
// out. It is empty for equal texts.
func Lines(from, to string) []string {
	if from == to {
		return nil
	}
	a, b := split(from), split(to)
	first := 0
	for first < len(a) && first < len(b) && a[first] == b[first] {
		first++
	}
	last := 0
	for last < len(a)-first && last < len(b)-first && a[len(a)-1-last] == b[len(b)-1-last] {
		last++
	}
	var out []string
	add := func(mark string, lines []string) {
		for _, l := range lines {
			out = append(out, mark+l)
		}
	}
	add(" ", a[:first])
	out = append(out, between(a[first:len(a)-last], b[first:len(b)-last])...)
	add(" ", a[len(a)-last:])
	return near(out)
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// between compares what the ends have not in common, by the longest common
// subsequence.
func between(a, b []string) []string {
	var out []string
	if len(a) > maxLines || len(b) > maxLines {
		for _, l := range a {
			out = append(out, "-"+l)
		}
		for _, l := range b {
			out = append(out, "+"+l)
		}
		return out
	}
	// longest[i][j] is that of a[i:] and b[j:].
	longest := make([][]int, len(a)+1)
	for i := range longest {
		longest[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, " "+a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && longest[i+1][j] >= longest[i][j+1]:
			out = append(out, "-"+a[i])
			i++
		default:
			out = append(out, "+"+b[j])
			j++
		}
	}
	return out
}

// near leaves out equal lines that are far from every change.
func near(all []string) []string {
	keep := make([]bool, len(all))
	for i, l := range all {
		if l[0] != ' ' {
			for j := max(0, i-context); j <= min(len(all)-1, i+context); j++ {
				keep[j] = true
			}
		}
	}
	var out []string
	if !slices.Contains(keep, true) {
		return nil // they differ in the end of the last line
	}
	for i, l := range all {
		switch {
		case keep[i]:
			out = append(out, l)
		case len(out) == 0 || out[len(out)-1] != "…":
			out = append(out, "…")
		}
	}
	return out
}
