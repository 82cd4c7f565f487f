package extract

import "strings"

// node is a place in the merged tree. Only places that matter are kept: files
// that an extractor looked into, symbolic links, and the directories above them.
type node struct {
	children map[string]*node
	// file is set for a file that an extractor looked into.
	file *file
	// name is the path the file had in its layer, layer the index of that layer.
	name  string
	layer int
	// target is set for a symbolic link, and wanted if its name is that of something with
	// packages.
	target string
	wanted []*plugin
}

// maxLinks is how many symbolic links are followed to resolve one path.
const maxLinks = 40

// tree is the file system of the image as far as the layers are merged.
type tree struct{ root *node }

func newTree() *tree { return &tree{root: &node{}} }

// resolve returns the components of the real path of p's parent and p's base: a
// layer that writes lib/x where lib is a link to usr/lib writes usr/lib/x. ok is
// false for a path that leads through a cycle of links.
func (t *tree) resolve(p string) (components []string, ok bool) {
	pending := strings.Split(p, "/")
	at := t.root // the node of components; nil where the tree has none
	links := 0
	for len(pending) > 1 {
		c := pending[0]
		pending = pending[1:]
		switch c {
		case "", ".":
			continue
		case "..":
			components = components[:max(len(components)-1, 0)]
			at = t.at(components)
			continue
		}
		next := at.child(c)
		if next == nil || next.target == "" {
			components, at = append(components, c), next
			continue
		}
		if links++; links > maxLinks {
			return nil, false
		}
		if strings.HasPrefix(next.target, "/") {
			components, at = components[:0], t.root
		}
		pending = append(strings.Split(strings.Trim(next.target, "/"), "/"), pending...)
	}
	return append(components, pending[0]), true
}

// follow resolves p entirely, its last component included.
func (t *tree) follow(p string) *node {
	cs, ok := t.real(p)
	if !ok {
		return nil
	}
	return t.at(cs)
}

// real returns the components of the path that p leads to; ok is false for a cycle of links.
func (t *tree) real(p string) (components []string, ok bool) {
	for range maxLinks {
		cs, ok := t.resolve(p)
		if !ok {
			return nil, false
		}
		n := t.at(cs)
		if n == nil || n.target == "" {
			return cs, true
		}
		if strings.HasPrefix(n.target, "/") {
			p = strings.TrimPrefix(n.target, "/")
		} else {
			p = strings.Join(append(cs[:len(cs)-1:len(cs)-1], n.target), "/")
		}
	}
	return nil, false
}

func (t *tree) at(components []string) *node {
	n := t.root
	for _, c := range components {
		if n = n.children[c]; n == nil {
			return nil
		}
	}
	return n
}

// remove takes the place and everything beneath it out of the tree.
func (t *tree) remove(components []string) {
	parent := t.at(components[:len(components)-1])
	if parent != nil {
		delete(parent.children, components[len(components)-1])
	}
}

// clear takes everything beneath a directory out of the tree.
func (t *tree) clear(components []string) {
	if n := t.at(components); n != nil && n.target == "" {
		n.children = nil
	}
}

// put replaces the place by a file or link.
func (t *tree) put(components []string, n *node) {
	t.makeParents(components)
	dir := t.root
	for _, c := range components[:len(components)-1] {
		next := dir.child(c)
		if next == nil {
			next = &node{}
			dir.set(c, next)
		}
		dir = next
	}
	dir.set(components[len(components)-1], n)
}

// makeParents turns a file that stands where a directory must be into one.
func (t *tree) makeParents(components []string) {
	dir := t.root
	for _, c := range components[:len(components)-1] {
		next := dir.child(c)
		if next == nil {
			return
		}
		if next.file != nil {
			delete(dir.children, c)
			return
		}
		dir = next
	}
}

// mkdir makes the place a directory: a directory stays what it is, anything else
// is replaced.
func (t *tree) mkdir(components []string) {
	t.makeParents(components)
	if n := t.at(components); n != nil && (n.file != nil || n.target != "") {
		t.remove(components)
	}
}

// hide replaces the place by a file of no interest.
func (t *tree) hide(components []string) {
	t.makeParents(components)
	t.remove(components)
}

func (n *node) child(name string) *node {
	if n == nil {
		return nil
	}
	return n.children[name]
}

func (n *node) set(name string, child *node) {
	if n.children == nil {
		n.children = map[string]*node{}
	}
	n.children[name] = child
}

// empty tells that there is nothing at a path, nor a file or link above it.
func (t *tree) empty(p string) bool {
	n := t.root
	for {
		c, rest, more := strings.Cut(p, "/")
		if c == "" || c == "." || c == ".." {
			return false // resolve knows what it means
		}
		if n = n.children[c]; n == nil {
			return true
		}
		if !more || n.file != nil || n.target != "" {
			return false
		}
		p = rest
	}
}

// placed is a place of the tree with its path.
type placed struct {
	path string
	*node
}

// files lists every file, in no particular order.
func (t *tree) files() []placed {
	var out []placed
	t.visit(func(path string, n *node) {
		if n.file != nil {
			out = append(out, placed{path, n})
		}
	})
	return out
}

// visit calls f for every place, in no particular order.
func (t *tree) visit(f func(path string, n *node)) {
	var below func(prefix string, n *node)
	below = func(prefix string, n *node) {
		for name, c := range n.children {
			p := name
			if prefix != "" {
				p = prefix + "/" + name
			}
			f(p, c)
			below(p, c)
		}
	}
	below("", t.root)
}
