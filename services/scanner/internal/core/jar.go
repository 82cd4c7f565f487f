package core

// Qualifiers of the package URL of a Java archive whose coordinates no pom names; their values
// are separated by commas.
const (
	// QualifierArtifacts are what its artifact may be called.
	QualifierArtifacts = "artifacts"
	// QualifierPackages are the Java packages of its classes, or AnyPackage.
	QualifierPackages = "packages"
	// QualifierClaims are the names of its manifest that may be or begin with a group.
	QualifierClaims = "claims"
	// AnyPackage stands for the Java packages of an archive with too many.
	AnyPackage = "any"
)
