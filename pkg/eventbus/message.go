package eventbus

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Header names. The ce-… ones are the CloudEvents attributes in binary mode.
const (
	headerID          = nats.MsgIdHdr
	headerContentType = "Content-Type"
	headerSpecVersion = "ce-specversion"
	headerCEID        = "ce-id"
	headerType        = "ce-type"
	headerSource      = "ce-source"
	headerSubject     = "ce-subject"
	headerTime        = "ce-time"
	specVersion       = "1.0"
	maxAttribute      = 1024
)

// Message is one event as it travels.
type Message struct {
	Subject      string    // NATS subject
	ID           string    // identity of the fact, derived from its content: Nats-Msg-Id and ce-id; 1 to 1,024 bytes
	Type         string    // ce-type; 1 to 1,024 bytes
	Source       string    // ce-source, the SPIFFE ID of the publisher; 1 to 1,024 bytes
	AboutSubject string    // ce-subject, what the event is about; may be empty
	ContentType  string    // media type of Data; may be empty
	Time         time.Time // ce-time, when the fact became true; may be zero
	Data         []byte
}

// Delivery is one delivery of a message to a consumer.
type Delivery struct {
	Message
	Header   map[string]string // all headers as they travelled, the first value of each
	Stream   string
	Consumer string
	Sequence uint64 // position in the stream
	Attempt  int    // 1 for the first delivery
}

func (m Message) check() error {
	for _, a := range []struct{ name, value string }{{"id", m.ID}, {"type", m.Type}, {"source", m.Source}} {
		if a.value == "" {
			return fmt.Errorf("message has no %s", a.name)
		}
	}
	for _, a := range []struct{ name, value string }{
		{"id", m.ID}, {"type", m.Type}, {"source", m.Source}, {"subject", m.AboutSubject}, {"content type", m.ContentType},
	} {
		if len(a.value) > maxAttribute {
			return fmt.Errorf("message's %s has %d bytes, more than %d", a.name, len(a.value), maxAttribute)
		}
	}
	return nil
}

func (m Message) header() nats.Header {
	h := nats.Header{}
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{encodeAttribute(value)}
		}
	}
	set(headerID, m.ID)
	set(headerContentType, m.ContentType)
	set(headerSpecVersion, specVersion)
	set(headerCEID, m.ID)
	set(headerType, m.Type)
	set(headerSource, m.Source)
	set(headerSubject, m.AboutSubject)
	if !m.Time.IsZero() {
		set(headerTime, m.Time.UTC().Format(time.RFC3339Nano))
	}
	return h
}

// parseMessage is lenient: whoever sent a broken header gets a message with an
// empty attribute, and the handler decides what it cannot do without.
func parseMessage(subject string, h nats.Header, data []byte) Message {
	get := func(name string) string {
		if v := h[name]; len(v) > 0 {
			return decodeAttribute(v[0])
		}
		return ""
	}
	m := Message{
		Subject: subject, ID: get(headerCEID), Type: get(headerType), Source: get(headerSource),
		AboutSubject: get(headerSubject), ContentType: get(headerContentType), Data: data,
	}
	if m.ID == "" {
		m.ID = get(headerID)
	}
	if t, err := time.Parse(time.RFC3339Nano, get(headerTime)); err == nil {
		m.Time = t
	}
	return m
}

const upperHex = "0123456789ABCDEF"

// encodeAttribute percent-encodes a value as the CloudEvents HTTP binding does,
// on which the NATS binding builds: everything but printable ASCII, and space,
// double quote and percent.
func encodeAttribute(v string) string {
	var b strings.Builder
	for i := range len(v) {
		c := v[i]
		if plainAttribute(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
	return b.String()
}

func plainAttribute(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '%' }

// decodeAttribute reverses encodeAttribute; an escape that is none is kept.
func decodeAttribute(v string) string {
	if !strings.Contains(v, "%") {
		return v
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '%' && i+2 < len(v) {
			hi, lo := hexValue(v[i+1]), hexValue(v[i+2])
			if hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		b.WriteByte(v[i])
	}
	return b.String()
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// ParseMessage reads a message from the headers of a Delivery. It is lenient: a
// broken or missing header gives an empty attribute.
func ParseMessage(subject string, header map[string]string, data []byte) Message {
	h := make(nats.Header, len(header))
	for k, v := range header {
		h[k] = []string{v}
	}
	return parseMessage(subject, h, data)
}
