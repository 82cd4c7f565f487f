package obs

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
)

// Config is the telemetry section of a service's configuration.
type Config struct {
	// LogLevel is debug, info, warn or error; "" = info.
	LogLevel string `yaml:"log_level"`
	// LogFormat is json or text; "" = json.
	LogFormat string `yaml:"log_format"`
	// OTLPEndpoint is the collector's OTLP/gRPC address, host:port or an
	// http(s) URL. "" = take OTEL_EXPORTER_OTLP_ENDPOINT from the environment,
	// and without that export nothing.
	OTLPEndpoint string `yaml:"otlp_endpoint"`
	// OTLPInsecure talks to the collector without TLS.
	OTLPInsecure bool `yaml:"otlp_insecure"`
	// SampleRatio is the share of traces that start here and are recorded, 0 to 1.
	// Traces that a caller started keep the caller's decision.
	SampleRatio float64 `yaml:"sample_ratio"`
}

// DefaultConfig logs JSON at info and records every trace.
func DefaultConfig() Config {
	return Config{LogLevel: "info", LogFormat: "json", SampleRatio: 1}
}

// Validate reports what is wrong with the section.
func (c Config) Validate(p *config.Problems) {
	if _, err := parseLevel(c.LogLevel); err != nil {
		p.Errorf("log_level", "%v", err)
	}
	if c.LogFormat != "" && c.LogFormat != "json" && c.LogFormat != "text" {
		p.Errorf("log_format", "%q is neither json nor text", c.LogFormat)
	}
	if !(c.SampleRatio >= 0 && c.SampleRatio <= 1) { // written so that NaN fails too
		p.Errorf("sample_ratio", "%v is not between 0 and 1", c.SampleRatio)
	}
	if err := checkEndpoint(c.OTLPEndpoint); err != nil {
		p.Errorf("otlp_endpoint", "%v", err)
	}
	if c.OTLPInsecure && c.OTLPEndpoint != "" && !loopback(c.OTLPEndpoint) {
		p.Warnf("otlp_insecure", "traces travel to %s without TLS", c.OTLPEndpoint)
	}
}

func checkEndpoint(s string) error {
	switch {
	case s == "":
		return nil
	case strings.Contains(s, "://"):
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("%q is not an http or https URL", s)
		}
		return nil
	default:
		if _, _, err := net.SplitHostPort(s); err != nil {
			return fmt.Errorf("%q is not host:port", s)
		}
		return nil
	}
}

func loopback(endpoint string) bool {
	host := endpoint
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		host = u.Host
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func parseLevel(s string) (slog.Level, error) {
	switch s {
	case "", "info":
		return slog.LevelInfo, nil
	case "debug":
		return slog.LevelDebug, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	default:
		return 0, fmt.Errorf("%q is none of debug, info, warn, error", s)
	}
}

func newHandler(cfg Config, logs io.Writer) (slog.Handler, error) {
	level, err := parseLevel(cfg.LogLevel)
	if err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: redactAttr}
	switch cfg.LogFormat {
	case "", "json":
		return slog.NewJSONHandler(logs, opts), nil
	case "text":
		return slog.NewTextHandler(logs, opts), nil
	default:
		return nil, fmt.Errorf("log format %q is neither json nor text", cfg.LogFormat)
	}
}
