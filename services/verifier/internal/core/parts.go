package core

// Parts of evidence that only some rules look at.
type Parts uint8

// The parts.
const (
	// PartPackages is Report.Packages.
	PartPackages Parts = 1 << iota
	// PartPredicates is the Predicate of every attestation.
	PartPredicates

	// AllParts are all of them.
	AllParts = PartPackages | PartPredicates
)

// Seen are the parts that the rules of any of the policies look at. A verdict by
// these policies is the same without the others.
func Seen(policies []Policy) Parts {
	unseen := AllParts
	for i := range policies {
		unseen &= policies[i].Unseen
	}
	return AllParts &^ unseen
}
