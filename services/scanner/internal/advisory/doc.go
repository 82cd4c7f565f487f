// Package advisory matches packages with advisories in the OSV format
// (https://ossf.github.io/osv-schema/).
//
// Records are reduced to what matching needs and kept in a Snapshot: immutable,
// content-addressed, made the same way from the same records. Matching follows the
// evaluation algorithm of the OSV schema, with the version rules of osv-scalibr.
// What several databases say about one vulnerability becomes one finding.
package advisory
