// Package extract takes the inventory of an image out of its layers.
//
// Every layer is read once as a stream: pulled, decompressed, walked as a tar.
// Only files that an extractor wants are held, one at a time, within Limits: in
// memory, or in a temporary file without a name if they are large. No image is
// unpacked and nothing is executed. The outcome of a
// layer does not depend on the other layers. Merge then applies the overlay
// rules of the OCI image specification to those outcomes, lowest layer first,
// and tells for each package which layer brought it.
//
// The extractors are those of osv-scalibr, driven file by file.
package extract
