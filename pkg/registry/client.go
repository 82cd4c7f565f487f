package registry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

// Client talks to the configured registries. It is safe for concurrent use.
type Client struct {
	cfg      Config
	hosts    map[string]*host
	base     *http.Transport
	subjects *keyedLock
	written  *memory
	shared   SubjectLock // nil: there are no other processes
	// configs are the repositories that have the config of artifacts.
	configs repositories
	repairs *repairs

	now   func() time.Time
	sleep func(context.Context, time.Duration) error
}

// New makes a client for the registries of cfg. It makes no request. It fails
// if a host name is not one or a password cannot be read.
func New(cfg Config, t *obs.Telemetry) (*Client, error) {
	repairs, err := newRepairs(t)
	if err != nil {
		return nil, err
	}
	c := &Client{
		repairs:  repairs,
		cfg:      cfg.withDefaults(),
		hosts:    map[string]*host{},
		base:     newBaseTransport(cfg.withDefaults().Timeout),
		subjects: newKeyedLock(),
		written:  newMemory(),
		now:      time.Now,
		sleep:    sleep,
	}
	for _, h := range cfg.Registries {
		if _, ok := c.hosts[h.Host]; ok {
			return nil, fmt.Errorf("registry %q is configured twice", h.Host)
		}
		traced, err := t.HTTPTransport(c.base, obs.HTTPClient{
			SpanName: func(method string) string { return "registry " + method },
			ShowPath: true, Server: h.Host, NotFoundIsAnswer: true,
		})
		if err != nil {
			return nil, err
		}
		made, err := newHost(h, traced, "seaworthy-"+t.Service)
		if err != nil {
			return nil, err
		}
		c.hosts[h.Host] = made
	}
	return c, nil
}

// Close frees idle connections. Streams that are open stay usable.
func (c *Client) Close() { c.base.CloseIdleConnections() }

// Allowed says whether images of the registry, as named in references, may be used.
func (c *Client) Allowed(registry string) bool {
	_, ok := c.hosts[registry]
	return ok
}

func newBaseTransport(timeout time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  timeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		// Digests are of the bytes as stored; nothing may unpack them on the way.
		DisableCompression: true,
	}
}

// target is a checked reference together with its registry.
type target struct {
	host *host
	ref  imageref.Ref
}

func (c *Client) target(op string, ref imageref.Ref) (target, error) {
	checked := ref
	if checked.Tag == "" && checked.Digest == "" {
		// Blobs are asked for by repository alone, which Validate calls incomplete.
		checked.Tag = "latest"
	}
	if err := checked.Validate(); err != nil {
		return target{}, &Error{Op: op, Where: clean(ref.String()), kind: ErrInvalidReference, cause: err}
	}
	h, ok := c.hosts[ref.Registry]
	if !ok {
		return target{}, &Error{Op: op, Where: ref.String(), kind: ErrNotAllowed}
	}
	return target{host: h, ref: ref}, nil
}

// Descriptor points at content in a repository, in the terms of the OCI image
// specification.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
}

// Platform is what an image was built for.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
	OSVersion    string `json:"os.version,omitempty"`
}
