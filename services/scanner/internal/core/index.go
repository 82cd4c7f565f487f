package core

// PackageVersion is all of a package that its findings depend on: packages with equal
// ones have equal findings but for where they are.
type PackageVersion struct {
	// Ecosystem is the OSV ecosystem with its release, for example `Debian:12`.
	Ecosystem string
	// Name is the name that advisories use, Version the version that they compare with,
	// both normalised by the rules of the ecosystem.
	Name, Version string
	// Stream is the module and stream of an rpm package.
	Stream string
}

// IndexedPackage is a package as stored inventories are searched for it.
type IndexedPackage struct {
	PackageVersion
	// Base is the ecosystem without its release.
	Base string
	// OwnName is the name of the package itself, normalised.
	OwnName string
	// Layer is the digest of the layer that brought the package.
	Layer string
}
