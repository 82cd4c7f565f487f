package rpmdb

import (
	"encoding/binary"
	"io"
)

const (
	ndbMagic     = "RpmP"
	ndbSlotMagic = "Slot"
	ndbBlobMagic = "BlbS"
	ndbPage      = 4096
	// ndbBlock is the unit of the places of blobs, and the size of a slot.
	ndbBlock = 16
	// maxSlotPages bounds the table of slots: half a million packages.
	maxSlotPages = 2048
)

func isNDB(head []byte) bool { return string(head[:4]) == ndbMagic }

// readNDB calls f with every blob that a slot points to.
func readNDB(r io.ReaderAt, size int64, head []byte, f func([]byte) error) error {
	if v := binary.LittleEndian.Uint32(head[4:]); v != 0 {
		return malformed("NDB of the unknown version %d", v)
	}
	n := int64(binary.LittleEndian.Uint32(head[12:]))
	if n == 0 || n > maxSlotPages {
		return malformed("%d pages of slots", n)
	}
	slots := make([]byte, min(n*ndbPage, size))
	if err := readAt(r, size, slots, 0); err != nil {
		return err
	}
	used := newPages(size / ndbBlock)
	if err := used.visitAll(0, int64(len(slots))/ndbBlock); err != nil {
		return err
	}
	// The header takes the place of two slots.
	for slot := slots[2*ndbBlock:]; len(slot) >= ndbBlock; slot = slot[ndbBlock:] {
		if string(slot[:4]) != ndbSlotMagic {
			return malformed("a slot that is none")
		}
		index := binary.LittleEndian.Uint32(slot[4:])
		if index == 0 {
			continue
		}
		at := int64(binary.LittleEndian.Uint32(slot[8:]))
		blob, err := ndbBlob(r, size, at*ndbBlock, index, used)
		if err != nil {
			return err
		}
		if err := f(blob); err != nil {
			return err
		}
	}
	return nil
}

// ndbBlob reads the blob at a place. Blobs that share blocks would cost one blob's memory
// and time many times.
func ndbBlob(r io.ReaderAt, size, at int64, index uint32, used pages) ([]byte, error) {
	var head [16]byte
	if err := readAt(r, size, head[:], at); err != nil {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(head[12:]))
	if string(head[:4]) != ndbBlobMagic || binary.LittleEndian.Uint32(head[4:]) != index || length > maxBlob || length > size {
		return nil, malformed("a slot without its package")
	}
	if err := used.visitAll(at/ndbBlock, (int64(len(head))+length+ndbBlock-1)/ndbBlock); err != nil {
		return nil, err
	}
	blob := make([]byte, length)
	return blob, readAt(r, size, blob, at+int64(len(head)))
}
