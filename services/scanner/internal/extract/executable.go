package extract

import "bytes"

// magicSize is how much of a file is read to tell an executable from a script, and an archive
// behind the first line of one.
const magicSize = 128

var executableMagics = [][]byte{
	[]byte("\x7fELF"),
	[]byte("MZ"),
	{0xfe, 0xed, 0xfa, 0xce}, {0xfe, 0xed, 0xfa, 0xcf},
	{0xce, 0xfa, 0xed, 0xfe}, {0xcf, 0xfa, 0xed, 0xfe},
	{0xca, 0xfe, 0xba, 0xbe},
}

func isExecutable(head []byte) bool {
	for _, m := range executableMagics {
		if bytes.HasPrefix(head, m) {
			return true
		}
	}
	return false
}

// maxPlainScript is the size up to which a script has no archive behind it.
const maxPlainScript = 1 << 10

// mayBeZip recognises zip archives and what may have one behind it, as a zip archive is read from
// its end: scripts and programs. Java and Python run them whatever they are called.
func mayBeZip(head []byte, size int64) bool {
	return bytes.HasPrefix(head, []byte("PK\x03\x04")) || isELF(head) ||
		bytes.HasPrefix(head, []byte("#!")) && (size > maxPlainScript || bytes.Contains(head, []byte("\nPK\x03\x04")))
}

// dropNonExecutables takes the executable extractors from the jobs of a file that
// is not one, so that scripts and data with an execute bit are not held in memory.
func dropNonExecutables(jobs []job, head []byte) []job {
	if isExecutable(head) {
		return jobs
	}
	var out []job
	for _, j := range jobs {
		var keep []*plugin
		for _, p := range j.plugins {
			if !p.executable {
				keep = append(keep, p)
			}
		}
		if keep != nil {
			out = append(out, job{path: j.path, plugins: keep})
		}
	}
	return out
}
