package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/strictjson"
)

const (
	// listedFactor times Config.MaxReferrers is how many entries of one index are read:
	// entries that nobody asks for are cheap to pass over, but not for free.
	listedFactor = 16
	// maxIndexAnnotations is how many bytes of the annotations of an index are kept.
	maxIndexAnnotations = 64 << 10
	// maxRejectedReferrers is how many entries of a list are named as rejected.
	maxRejectedReferrers = 16
)

// referrersIndex is an OCI index whose entries are kept as they are, so that
// writing it back loses nothing that we do not know.
type referrersIndex struct {
	entries []referrersEntry
	// garbage counts entries that are no descriptors; they are not kept.
	garbage int
	// cut is set if there are more entries than were read.
	cut bool
	// annotations of the index itself.
	annotations json.RawMessage
	// digest of the document, and what the registry called this version of the tag;
	// both are empty for a tag that is not there, the second also if the registry
	// does not say, or only weakly.
	digest, etag string
}

type referrersEntry struct {
	Descriptor
	raw json.RawMessage
}

// indexFields are those that decide what a document is.
var indexFields = []string{"schemaVersion", "mediaType", "manifests", "annotations", "layers", "config"}

// parseReferrersIndex reads the first limit entries of an index. An entry that is no
// descriptor does not spoil the others. A document without a list of manifests is no
// index: it would look like an empty one.
func parseReferrersIndex(raw []byte, limit int) (referrersIndex, error) {
	fields, err := readFields(raw)
	if err != nil {
		return referrersIndex{}, err
	}
	if fields["layers"] != nil || fields["config"] != nil {
		return referrersIndex{}, errors.New("referrers are not an index but a manifest")
	}
	var mediaType string
	if m := fields["mediaType"]; m != nil && json.Unmarshal(m, &mediaType) != nil {
		return referrersIndex{}, errors.New("referrers are not an index: its media type is no text")
	}
	if mediaType != "" && mediaType != MediaTypeOCIIndex {
		return referrersIndex{}, fmt.Errorf("referrers are not an index but %q", clean(mediaType))
	}
	var x referrersIndex
	if err := x.readEntries(fields["manifests"], limit); err != nil {
		return referrersIndex{}, err
	}
	x.readAnnotations(fields["annotations"])
	return x, nil
}

// readFields reads the fields of a JSON object that indexFields names. Readers differ
// in which they take of two with one name, or in different case: that is an error.
func readFields(raw []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := expect(d, '{'); err != nil {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, notJSON(err)
		}
		key, _ := token.(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, notJSON(err)
		}
		known := slices.IndexFunc(indexFields, func(f string) bool { return strings.EqualFold(f, key) })
		if known < 0 {
			continue
		}
		if indexFields[known] != key || fields[key] != nil {
			return nil, fmt.Errorf("referrers are ambiguous: field %q", clean(key))
		}
		fields[key] = value
	}
	if err := expect(d, '}'); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("referrers are followed by something else")
	}
	return fields, nil
}

func (x *referrersIndex) readEntries(raw json.RawMessage, limit int) error {
	switch {
	case raw == nil:
		return errors.New("referrers are not an index: it has no manifests")
	case string(raw) == "null": // what Go programs write for an empty list
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := expect(d, '['); err != nil {
		return err
	}
	for n := 0; d.More(); n++ {
		if n == limit {
			x.cut = true
			return nil
		}
		var e referrersEntry
		if err := d.Decode(&e.raw); err != nil {
			return notJSON(err)
		}
		if strictjson.Unmarshal(e.raw, &e.Descriptor) != nil || e.Digest == "" {
			x.garbage++
			continue
		}
		x.entries = append(x.entries, e)
	}
	return nil
}

func (x *referrersIndex) readAnnotations(raw json.RawMessage) {
	var annotations map[string]string
	switch {
	case raw == nil || string(raw) == "null":
	case json.Unmarshal(raw, &annotations) != nil || len(raw) > maxIndexAnnotations:
		x.garbage++
	default:
		x.annotations = raw
	}
}

func expect(d *json.Decoder, want json.Delim) error {
	token, err := d.Token()
	if err != nil {
		return notJSON(err)
	}
	if token != want {
		return errors.New("referrers are not an index but another JSON value")
	}
	return nil
}

func notJSON(err error) error { return fmt.Errorf("referrers are not JSON: %w", err) }

// unreadable says why an entry names nothing that can be read as a manifest of its
// repository; it is empty for one that does. Its size need not be right: a manifest is
// read by its digest.
func (d Descriptor) unreadable() string {
	if err := imageref.CheckDigest(d.Digest); err != nil {
		return "its digest is not usable"
	}
	switch d.MediaType {
	case "", MediaTypeOCIManifest, MediaTypeOCIIndex, MediaTypeDockerManifest, MediaTypeDockerList:
		return ""
	default:
		return fmt.Sprintf("it is not a manifest but %q", clean(d.MediaType))
	}
}

// has says whether one of the first n entries has the digest.
func (x *referrersIndex) has(digest string, n int) bool {
	return slices.ContainsFunc(x.entries[:min(n, len(x.entries))], func(e referrersEntry) bool { return e.Digest == digest })
}

func (x *referrersIndex) marshal() ([]byte, error) {
	doc := struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []json.RawMessage `json:"manifests"`
		Annotations   json.RawMessage   `json:"annotations,omitempty"`
	}{SchemaVersion: 2, MediaType: MediaTypeOCIIndex, Manifests: []json.RawMessage{}, Annotations: x.annotations}
	for _, e := range x.entries {
		doc.Manifests = append(doc.Manifests, e.raw)
	}
	return marshalPlain(doc)
}

// marshalPlain is json.Marshal without escapes for HTML: entries of others must not
// grow, because what was read has to fit again.
func marshalPlain(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
