// Package extract takes the inventory of an image out of its layers.
//
// Every layer is read once as a stream: pulled, decompressed, walked as a tar.
// Only files that an extractor wants are held in memory, one at a time, within
// Limits; nothing is written to disk and nothing is executed. The outcome of a
// layer does not depend on the other layers. Merge then applies the overlay
// rules of the OCI image specification to those outcomes, lowest layer first,
// and tells for each package which layer brought it.
//
// The extractors are those of osv-scalibr, driven file by file.
package extract
