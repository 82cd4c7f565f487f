// Package core decides who is told what and what follows from an attempt: which
// subscriptions match a verdict, when a delivery is tried again, when it is given
// up. It knows no transport and no storage.
package core

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Subscription says who is told about which verdicts.
type Subscription struct {
	// Name is unique.
	Name string
	// Address is where notifications go, without anything that may be secret.
	Address string
	// AddressHash identifies the whole address.
	AddressHash string
	Filter      Filter
	Sink        Sink
}

// States of a verdict, as subscribers see them.
const (
	StatePass    = "PASS"
	StateFail    = "FAIL"
	StateUnknown = "UNKNOWN"
)

// States are all states of a verdict.
func States() []string { return []string{StatePass, StateFail, StateUnknown} }

// Filter chooses verdicts. The zero Filter chooses all.
type Filter struct {
	// Repositories are globs of `registry/repository`; see CheckGlob. Empty means all.
	Repositories []string
	// States are states of a verdict. Empty means all.
	States []string
}

// Match reports whether a verdict of an image of the repository, named with its
// registry, is chosen.
func (f Filter) Match(repository, state string) bool {
	if len(f.States) > 0 && !slices.Contains(f.States, state) {
		return false
	}
	if len(f.Repositories) == 0 {
		return true
	}
	return slices.ContainsFunc(f.Repositories, func(glob string) bool {
		return matchGlob(strings.Split(glob, "/"), strings.Split(repository, "/"))
	})
}

// MaxGlob bounds a glob, in bytes.
const MaxGlob = 512

// CheckGlob refuses what Match could not use. In a glob `*` and `?` stand for
// characters of one path component, `[a-z]` for one of a range, and a component
// `**` for any number of components. At most two `**`, so that matching stays cheap.
func CheckGlob(glob string) error {
	if glob == "" {
		return errors.New("is empty")
	}
	if len(glob) > MaxGlob {
		return fmt.Errorf("%d bytes exceeds the limit of %d", len(glob), MaxGlob)
	}
	wide := 0
	for component := range strings.SplitSeq(glob, "/") {
		if component == "" {
			return errors.New("has an empty component")
		}
		if component == "**" {
			wide++
			continue
		}
		if _, err := path.Match(component, ""); err != nil {
			return fmt.Errorf("component %q: %w", component, err)
		}
	}
	if wide > 2 {
		return errors.New("has more than two ** components")
	}
	return nil
}

func matchGlob(glob, name []string) bool {
	for len(glob) > 0 {
		if glob[0] == "**" {
			for skip := range len(name) + 1 {
				if matchGlob(glob[1:], name[skip:]) {
					return true
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(glob[0], name[0]); err != nil || !ok {
			return false
		}
		glob, name = glob[1:], name[1:]
	}
	return len(name) == 0
}
