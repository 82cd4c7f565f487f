package rpmdb

import (
	"encoding/binary"
	"io"
)

const (
	bdbHashMagic = 0x061561
	// bdbPageHeader is the size of the header of every page but the first.
	bdbPageHeader = 26
	// Kinds of pages.
	bdbHashUnsorted = 2
	bdbOverflow     = 7
	bdbHashMeta     = 8
	bdbHash         = 13
	// Kinds of items of a hash page.
	bdbKeyData = 1
	bdbOffPage = 3
)

// bdbOrder is the byte order of a Berkeley DB hash, nil for anything else: the
// machine that made the file decided it.
func bdbOrder(head []byte) binary.ByteOrder {
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if o.Uint32(head[12:]) == bdbHashMagic {
			return o
		}
	}
	return nil
}

type bdb struct {
	r       io.ReaderAt
	size    int64
	page    int64
	order   binary.ByteOrder
	visited pages
	buf     []byte
}

// readBDB calls f with the value of every pair but the first one of all, which
// counts the packages.
func readBDB(r io.ReaderAt, size int64, head []byte, order binary.ByteOrder, f func([]byte) error) error {
	page := int64(order.Uint32(head[20:]))
	if page < 512 || page > maxPage || page&(page-1) != 0 || head[25] != bdbHashMeta {
		return malformed("pages of %d bytes", page)
	}
	if head[24] != 0 {
		return malformed("it is encrypted")
	}
	b := &bdb{r: r, size: size, page: page, order: order, visited: newPages(size / page), buf: make([]byte, page)}
	hash := make([]byte, page)
	for n := int64(1); n < size/page; n++ {
		if err := readAt(r, size, hash, n*page); err != nil {
			return err
		}
		if kind := hash[25]; kind != bdbHash && kind != bdbHashUnsorted {
			continue
		}
		if err := b.pairs(hash, f); err != nil {
			return err
		}
	}
	return nil
}

// pairs reads a page of keys and values, which take turns.
func (b *bdb) pairs(page []byte, f func([]byte) error) error {
	items := int64(b.order.Uint16(page[20:]))
	if bdbPageHeader+2*items > b.page {
		return malformed("a page of %d items", items)
	}
	end := b.page
	at := func(i int64) int64 { return int64(b.order.Uint16(page[bdbPageHeader+2*i:])) }
	for i := int64(0); i+1 < items; i += 2 {
		key, value := at(i), at(i+1)
		// Items fill the page from its end, one before the other.
		if value+1 > key || key+5 > b.page || key >= end || value < bdbPageHeader+2*items {
			return malformed("an item outside of its page, or within another")
		}
		end = value
		if page[key] == bdbKeyData && b.order.Uint32(page[key+1:]) == 0 {
			continue
		}
		var blob []byte
		switch page[value] {
		case bdbKeyData:
			blob = page[value+1 : key]
		case bdbOffPage:
			if value+12 > b.page {
				return malformed("an item outside of its page")
			}
			var err error
			if blob, err = b.overflow(int64(b.order.Uint32(page[value+4:])), int64(b.order.Uint32(page[value+8:]))); err != nil {
				return err
			}
		default:
			return malformed("an item of the unknown kind %d", page[value])
		}
		if err := f(blob); err != nil {
			return err
		}
	}
	return nil
}

// overflow reads a value that goes over a chain of pages.
func (b *bdb) overflow(n, length int64) ([]byte, error) {
	if length > maxBlob || length > b.size {
		return nil, malformed("a value of %d bytes", length)
	}
	out := make([]byte, 0, length)
	for n != 0 {
		if err := b.visited.visit(n); err != nil {
			return nil, err
		}
		if err := readAt(b.r, b.size, b.buf, n*b.page); err != nil {
			return nil, err
		}
		used := int64(b.order.Uint16(b.buf[22:]))
		if b.buf[25] != bdbOverflow || bdbPageHeader+used > b.page || int64(len(out))+used > length {
			return nil, malformed("page %d does not go on with a value", n)
		}
		out = append(out, b.buf[bdbPageHeader:bdbPageHeader+used]...)
		n = int64(b.order.Uint32(b.buf[16:]))
	}
	if int64(len(out)) != length {
		return nil, malformed("a value ends early")
	}
	return out, nil
}
