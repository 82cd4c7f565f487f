package grpcx

import (
	"net"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
)

// Limits that are the same for every server and client of the fleet.
const (
	// DefaultMaxMessage is the largest message sent or received.
	DefaultMaxMessage config.Bytes = 16 << 20
	// DefaultMaxDeadline is the longest that a unary call may take.
	DefaultMaxDeadline = 2 * time.Minute
	// DefaultCallTimeout is the deadline of a unary call whose caller set none.
	DefaultCallTimeout = 30 * time.Second

	maxMessageLimit config.Bytes = 256 << 20

	maxHeaderBytes       = 64 << 10
	maxConcurrentStreams = 256
	handshakeTimeout     = 10 * time.Second
)

// ServerConfig is the configuration of a server.
type ServerConfig struct {
	// Listen is the address, host:port; port 0 takes a free one.
	Listen string `yaml:"listen"`
	// MaxMessage bounds each message received and sent.
	MaxMessage config.Bytes `yaml:"max_message"`
	// MaxDeadline bounds unary calls, also of callers that set a later deadline or
	// none. Streams end when the caller or the server ends them.
	MaxDeadline time.Duration `yaml:"max_deadline"`
	// Reflection lets any peer with a certificate of the fleet list the RPCs.
	Reflection bool `yaml:"reflection"`
	// StopTimeout is how long calls at work may go on after the stop began.
	StopTimeout time.Duration `yaml:"stop_timeout"`
}

// DefaultServerConfig returns the configuration that a server starts from.
func DefaultServerConfig(listen string) ServerConfig {
	return ServerConfig{
		Listen:      listen,
		MaxMessage:  DefaultMaxMessage,
		MaxDeadline: DefaultMaxDeadline,
		StopTimeout: 10 * time.Second,
	}
}

// Validate adds what is wrong with the configuration to p.
func (c ServerConfig) Validate(p *config.Problems) {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		p.Errorf("listen", "%q is not host:port", c.Listen)
	}
	if c.MaxMessage < 1<<10 || c.MaxMessage > maxMessageLimit {
		p.Errorf("max_message", "must be between 1KiB and 256MiB")
	}
	if c.MaxDeadline < time.Second {
		p.Errorf("max_deadline", "must be at least 1s")
	}
	if c.StopTimeout <= 0 {
		p.Errorf("stop_timeout", "must be positive")
	}
	if c.Reflection {
		p.Warnf("reflection", "is on: every peer of the fleet can list the RPCs")
	}
}
