package advisory

import (
	"encoding/binary"
	"slices"
)

// Resum gives damaged content the checksums that it would have if it had been made
// so, as far as it has that form: a reader must not rely on them.
func Resum(content []byte) []byte {
	const tableEnd = headerSize + sections*sectionSize
	if len(content) < tableEnd {
		return content
	}
	out := slices.Clone(content)
	table := out[headerSize:tableEnd]
	le := binary.LittleEndian
	section := func(kind int) []byte {
		at, size := u64at(table, kind*sectionSize+8), u64at(table, kind*sectionSize+16)
		if at > uint64(len(out)) || size > uint64(len(out))-at {
			return nil
		}
		return out[at : at+size]
	}
	blocks := section(sectionBlocks)
	for kind, row := range map[int][2]int{sectionPackages: {packageSize, 16}, sectionRecords: {recordSize, 8}} {
		rows := section(kind)
		for i := 0; i+row[0] <= len(rows); i += row[0] {
			at, size := uint64(u32at(rows, i+row[1])), uint64(u32at(rows, i+row[1]+4))
			if at+size <= uint64(len(blocks)) {
				le.PutUint32(rows[i+row[1]+8:], checksum(blocks[at:at+size]))
			}
		}
	}
	for kind := range sections {
		le.PutUint32(table[kind*sectionSize+4:], sectionChecksum(kind, section(kind)))
	}
	copy(out, magic)
	le.PutUint32(out[8:], formatVersion)
	le.PutUint32(out[12:], sections)
	le.PutUint64(out[16:], uint64(len(out)))
	le.PutUint32(out[24:], headerChecksum(out[:24], table))
	return out
}

// IsVersion and Canonical take an ecosystem with or without release.
func IsVersion(ecosystem, version string) bool { return isVersion(baseEcosystem(ecosystem), version) }

func Canonical(ecosystem, version string) string {
	return canonical(baseEcosystem(ecosystem), version)
}
