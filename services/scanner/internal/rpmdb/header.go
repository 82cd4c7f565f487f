package rpmdb

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Tags of a header that are read.
const (
	tagName            = 1000
	tagVersion         = 1001
	tagRelease         = 1002
	tagEpoch           = 1003
	tagVendor          = 1011
	tagLicense         = 1014
	tagArch            = 1022
	tagOldFileNames    = 1027
	tagSourceRPM       = 1044
	tagDirIndexes      = 1116
	tagBaseNames       = 1117
	tagDirNames        = 1118
	tagModularityLabel = 5096
)

// Types of the data of a tag.
const (
	typeInt32       = 4
	typeString      = 6
	typeStringArray = 8
	typeI18NString  = 9
)

const (
	// entrySize is the size of one entry of the index: tag, type, offset, count.
	entrySize = 16
	// maxEntries is rpm's own limit on the tags of a header.
	maxEntries = 0xffff
	// maxFiles is the number of files of one package that are looked at.
	maxFiles = 2_000_000
)

// header is the header of a package: an index of tags, and their data.
type header struct {
	index []byte
	data  []byte
}

func parseHeader(blob []byte, want func(string) bool, left *budget) (*Package, error) {
	if len(blob) < 8 {
		return nil, malformed("a header has %d bytes", len(blob))
	}
	entries, size := int64(binary.BigEndian.Uint32(blob)), int64(binary.BigEndian.Uint32(blob[4:]))
	if entries == 0 || entries > maxEntries || 8+entries*entrySize+size > int64(len(blob)) {
		return nil, malformed("a header of %d bytes says that it has %d tags and %d bytes of data", len(blob), entries, size)
	}
	h := header{index: blob[8 : 8+entries*entrySize], data: blob[8+entries*entrySize:][:size]}
	p := &Package{}
	for tag, to := range map[uint32]*string{
		tagName: &p.Name, tagVersion: &p.Version, tagRelease: &p.Release, tagArch: &p.Arch, tagSourceRPM: &p.SourceRPM,
		tagLicense: &p.License, tagVendor: &p.Vendor, tagModularityLabel: &p.ModularityLabel,
	} {
		s, err := h.text(tag)
		if err != nil {
			return nil, err
		}
		*to = s
	}
	if p.SourceRPM == "(none)" {
		// rpm's own word for nothing, in keys that it keeps like packages.
		p.SourceRPM = ""
	}
	if p.Name == "" || p.Version == "" {
		return nil, malformed("a package without a name or a version")
	}
	epoch, err := h.numbers(tagEpoch)
	if err != nil {
		return nil, err
	}
	if len(epoch) > 0 {
		p.Epoch = int(epoch[0])
	}
	if want != nil {
		p.Files, err = h.files(want, left)
	}
	return p, err
}

// find returns the type, the number of elements and the data of a tag from its
// start on; data is nil if the header has no such tag.
func (h *header) find(tag uint32) (kind, count uint32, data []byte, err error) {
	for e := h.index; len(e) > 0; e = e[entrySize:] {
		if binary.BigEndian.Uint32(e) != tag {
			continue
		}
		offset := binary.BigEndian.Uint32(e[8:])
		if int64(offset) > int64(len(h.data)) {
			return 0, 0, nil, malformed("tag %d points outside of its header", tag)
		}
		return binary.BigEndian.Uint32(e[4:]), binary.BigEndian.Uint32(e[12:]), h.data[offset:], nil
	}
	return 0, 0, nil, nil
}

func (h *header) text(tag uint32) (string, error) {
	kind, _, data, err := h.find(tag)
	if err != nil || data == nil {
		return "", err
	}
	if kind != typeString && kind != typeI18NString {
		return "", malformed("tag %d is no text", tag)
	}
	s, _, ok := bytes.Cut(data, []byte{0})
	if !ok {
		return "", malformed("tag %d has no end", tag)
	}
	return string(s), nil
}

// texts returns the elements of an array, which share the memory of the header.
func (h *header) texts(tag uint32) ([][]byte, error) {
	kind, count, data, err := h.find(tag)
	if err != nil || data == nil {
		return nil, err
	}
	if kind != typeStringArray && kind != typeString || count > maxFiles || int64(count) > int64(len(data)) {
		return nil, malformed("tag %d is no list of texts", tag)
	}
	out := make([][]byte, 0, count)
	for range count {
		s, rest, ok := bytes.Cut(data, []byte{0})
		if !ok {
			return nil, malformed("tag %d has no end", tag)
		}
		out, data = append(out, s), rest
	}
	return out, nil
}

func (h *header) numbers(tag uint32) ([]uint32, error) {
	kind, count, data, err := h.find(tag)
	if err != nil || data == nil {
		return nil, err
	}
	if kind != typeInt32 || count > maxFiles || int64(count)*4 > int64(len(data)) {
		return nil, malformed("tag %d is no list of numbers", tag)
	}
	out := make([]uint32, count)
	for i := range out {
		out[i] = binary.BigEndian.Uint32(data[4*i:])
	}
	return out, nil
}

// files joins the names of a package's files with their directories; packages of
// very old releases of rpm have whole paths.
func (h *header) files(want func(string) bool, left *budget) ([]string, error) {
	bases, err := h.texts(tagBaseNames)
	if err != nil {
		return nil, err
	}
	var out []string
	if bases == nil {
		paths, err := h.texts(tagOldFileNames)
		for _, p := range paths {
			if s := string(p); want(s) {
				out = append(out, s)
			}
		}
		return out, err
	}
	dirs, err := h.texts(tagDirNames)
	if err != nil {
		return nil, err
	}
	in, err := h.numbers(tagDirIndexes)
	if err != nil {
		return nil, err
	}
	if len(in) != len(bases) {
		return nil, malformed("%d files in %d directories", len(bases), len(in))
	}
	var path []byte
	for i, b := range bases {
		if int64(in[i]) >= int64(len(dirs)) {
			return nil, malformed("a file in a directory that is not there")
		}
		path = append(append(path[:0], dirs[in[i]]...), b...)
		if err := left.path(len(path)); err != nil {
			return nil, err
		}
		if s := string(path); want(s) {
			out = append(out, s)
		}
	}
	return slices.Clip(out), nil
}
