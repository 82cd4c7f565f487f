// Package rpmdb reads the packages out of an rpm database of any of its three
// forms: SQLite (rpm 4.16 and newer), NDB (SUSE) and Berkeley DB (before 4.16).
//
// The database comes out of an image and is hostile. It is read where it lies,
// through an io.ReaderAt: no copy on a disk, no database engine, no goroutine.
// Every page is read at most once, so the work is linear in the size of the file,
// and cycles and lying lengths end in an error.
package rpmdb
