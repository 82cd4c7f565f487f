package registryd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/notifications"
	"github.com/distribution/distribution/v3/registry/api/errcode"
	v2 "github.com/distribution/distribution/v3/registry/api/v2"
	"github.com/docker/go-events"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus" //nolint:depguard // the registry's log
)

const (
	// maxManifest is the largest manifest that Distribution takes.
	maxManifest = 4 << 20
	// maxWrites bounds the manifests written at a time, and with them the requests
	// that wait at the gateway: it stays below the gateway's own bound.
	maxWrites      = 16
	bodyTimeout    = 30 * time.Second
	notifyPatience = 10 * time.Second
	notifyTimeout  = 6 * time.Second
	notifyMinWait  = 50 * time.Millisecond
	notifyMaxWait  = time.Second
	tagLocks       = 64
)

// notifying answers a client that wrote or deleted a manifest only after the gateway
// has stored the event about it. Distribution's own notifications wait in memory, in
// one queue that also carries every blob and every pull: what is in it when the
// process ends is lost, although the client was told that the push succeeded.
type notifying struct {
	registry http.Handler
	routes   *mux.Router
	url      string
	secret   string
	client   *http.Client
	// patience is how long a client waits for a gateway that does not take the event
	// before it is told to come back.
	patience time.Duration
	// bodyTimeout is how long a client may take to send a manifest.
	bodyTimeout time.Duration
	// writes has a place for each manifest that is being written.
	writes chan struct{}
	// tags make the events of one tag follow one another as the writes did.
	tags [tagLocks]sync.Mutex
	seed maphash.Seed
}

func newNotifying(registry http.Handler, url, secret string) *notifying {
	return &notifying{
		registry: registry, url: url, secret: secret,
		// The registry's own routes: a path that it takes for a manifest is one here too.
		routes: v2.Router(),
		client: &http.Client{
			Timeout: notifyTimeout,
			// No proxy: the gateway is beside us, and its answer is what is acknowledged.
			Transport: &http.Transport{MaxIdleConnsPerHost: maxWrites, IdleConnTimeout: 30 * time.Second},
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			},
		},
		patience: notifyPatience, bodyTimeout: bodyTimeout,
		writes: make(chan struct{}, maxWrites),
		seed:   maphash.MakeSeed(),
	}
}

// ServeHTTP implements http.Handler.
func (n *notifying) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var route mux.RouteMatch
	if r.Method != http.MethodPut && r.Method != http.MethodDelete ||
		!n.routes.Match(r, &route) || route.Route == nil || route.Route.GetName() != v2.RouteNameManifest {
		n.registry.ServeHTTP(w, r)
		return
	}
	var body []byte
	if r.Method == http.MethodPut {
		// Before it takes a place that others wait for: the client sends as slowly as it
		// likes.
		var err error
		if body, err = n.read(w, r); err != nil {
			serveError(w, errcode.ErrorCodeUnknown.WithMessage("the manifest did not arrive whole, or not in time"))
			return
		}
	}
	select {
	case n.writes <- struct{}{}:
		defer func() { <-n.writes }()
	case <-r.Context().Done():
		return
	}
	repository, reference := route.Vars["name"], route.Vars["reference"]
	if !isDigest(reference) {
		unlock := n.lock(repository, reference)
		defer unlock()
	}
	if r.Method == http.MethodPut {
		n.put(w, r, repository, reference, body)
	} else {
		n.remove(w, r, repository, reference)
	}
}

func isDigest(reference string) bool {
	_, err := digest.Parse(reference)
	return err == nil
}

func (n *notifying) lock(repository, tag string) (unlock func()) {
	m := &n.tags[maphash.String(n.seed, repository+":"+tag)%tagLocks]
	m.Lock()
	return m.Unlock
}

// read reads what is sent within the time for it, and one byte more than is allowed at
// most: the registry refuses that.
func (n *notifying) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(n.bodyTimeout)) // only tests cannot
	return io.ReadAll(io.LimitReader(r.Body, maxManifest+1))
}

// put stores a manifest, then the event about it, then answers. If the event cannot be
// stored the tag means again what it meant before: the fleet knows nothing else of it.
// A process that dies in between leaves the tag to the scanner, which compares at start.
func (n *notifying) put(w http.ResponseWriter, r *http.Request, repository, reference string, body []byte) {
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	var before *recorder
	if !isDigest(reference) {
		before = n.ask(r, http.MethodGet, "", nil)
	}
	answer := &recorder{header: w.Header()}
	n.registry.ServeHTTP(answer, r)
	if answer.status != http.StatusCreated {
		answer.copyTo(w)
		return
	}
	event, err := pushEvent(r, repository, reference, body)
	if err == nil {
		err = n.send(r.Context(), event)
	}
	if err != nil {
		if before != nil {
			n.restore(r, before, body)
		}
		n.fail(w, repository, reference, err)
		return
	}
	answer.copyTo(w)
}

// restore gives a tag its manifest back, or removes it if it had none.
func (n *notifying) restore(r *http.Request, before *recorder, pushed []byte) {
	var answer *recorder
	switch {
	case before.status != http.StatusOK:
		answer = n.ask(r, http.MethodDelete, "", nil)
	case bytes.Equal(before.body.Bytes(), pushed):
		return
	default:
		answer = n.ask(r, http.MethodPut, before.header.Get("Content-Type"), before.body.Bytes())
	}
	if answer.status != http.StatusCreated && answer.status != http.StatusAccepted {
		logrus.WithField("path", r.URL.Path).WithField("status", answer.status).
			Error("a tag whose push was not acknowledged could not be given its manifest back")
	}
}

// ask makes a request of our own for the manifest that r is about.
func (n *notifying) ask(r *http.Request, method, contentType string, body []byte) *recorder {
	own := r.Clone(context.WithoutCancel(r.Context()))
	own.Method, own.URL.RawQuery = method, ""
	own.Body, own.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	own.Header = http.Header{"Accept": manifestTypes}
	if contentType != "" {
		own.Header.Set("Content-Type", contentType)
	}
	answer := &recorder{header: http.Header{}}
	n.registry.ServeHTTP(answer, own)
	return answer
}

// manifestTypes are all that Distribution stores.
var manifestTypes = []string{
	v1.MediaTypeImageManifest, v1.MediaTypeImageIndex,
	"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
}

// remove deletes a manifest or a tag, then stores the event about it, then answers.
// A client that was told to come back finds the manifest gone; then the event is sent
// again, which is harmless.
func (n *notifying) remove(w http.ResponseWriter, r *http.Request, repository, reference string) {
	answer := &recorder{header: w.Header()}
	n.registry.ServeHTTP(answer, r)
	if answer.status == http.StatusAccepted || answer.status == http.StatusNotFound {
		if err := n.send(r.Context(), deleteEvent(r, repository, reference)); err != nil {
			n.fail(w, repository, reference, err)
			return
		}
	}
	answer.copyTo(w)
}

func (n *notifying) fail(w http.ResponseWriter, repository, reference string, err error) {
	logrus.WithError(err).WithField("repository", repository).WithField("reference", reference).
		Error("the event about a manifest is not stored")
	for name := range w.Header() {
		switch http.CanonicalHeaderKey(name) {
		case "Location", "Docker-Content-Digest", "Content-Length":
			w.Header().Del(name)
		}
	}
	if refused := new(refusedError); errors.As(err, &refused) {
		serveError(w, errcode.ErrorCodeManifestInvalid.WithMessage("the image cannot be judged: "+refused.detail))
		return
	}
	w.Header().Set("Retry-After", "1")
	serveError(w, errcode.ErrorCodeUnavailable.WithMessage("the push cannot be recorded now; repeat it"))
}

func serveError(w http.ResponseWriter, err errcode.Error) {
	_ = errcode.ServeJSON(w, err) // the client went away
}

// refusedError says that the gateway will not take an event, now or later.
type refusedError struct{ detail string }

func (e *refusedError) Error() string { return "the gateway refuses the event: " + e.detail }

// send returns nil once the gateway has stored the event. It goes on although the
// client went away: what it pushed is in the registry.
func (n *notifying) send(ctx context.Context, event notifications.Event) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // a `<` of the client must not become six bytes
	if err := enc.Encode(notifications.Envelope{Events: []events.Event{event}}); err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	body := b.Bytes()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.patience)
	defer cancel()
	for wait := notifyMinWait; ; wait = min(2*wait, notifyMaxWait) {
		err := n.post(ctx, body)
		if refused := new(refusedError); err == nil || errors.As(err, &refused) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

func (n *notifying) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", notifications.EventsMediaType)
	req.Header.Set("Authorization", "Bearer "+n.secret)
	resp, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	detail, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	switch s := resp.StatusCode; {
	case s >= 200 && s < 300:
		return nil
	case s == http.StatusBadRequest, s == http.StatusRequestEntityTooLarge, s == http.StatusUnsupportedMediaType:
		return &refusedError{detail: problemDetail(detail)}
	default:
		return errors.Join(fmt.Errorf("the gateway answers %s: %s", resp.Status, problemDetail(detail)), err)
	}
}

// problemDetail is what a problem document says.
func problemDetail(body []byte) string {
	var p struct{ Title, Detail string }
	if json.Unmarshal(body, &p) != nil {
		return "no explanation"
	}
	return strings.TrimSpace(p.Title + ". " + p.Detail)
}

func newEvent(r *http.Request, action, repository string) notifications.Event {
	e := notifications.Event{
		ID: rand.Text(), Timestamp: time.Now(), Action: action,
		Request: notifications.RequestRecord{Addr: r.RemoteAddr, Host: r.Host, Method: r.Method, UserAgent: r.UserAgent()},
	}
	e.Target.Repository = repository
	return e
}

// pushEvent describes a manifest as Distribution does, with what it refers to: the
// gateway sees by that whether it is an image or evidence about one.
func pushEvent(r *http.Request, repository, reference string, body []byte) (notifications.Event, error) {
	manifest, descriptor, err := distribution.UnmarshalManifest(r.Header.Get("Content-Type"), body)
	if err != nil {
		return notifications.Event{}, fmt.Errorf("read manifest: %w", err)
	}
	e := newEvent(r, notifications.EventActionPush, repository)
	e.Target.Descriptor = v1.Descriptor{MediaType: descriptor.MediaType, Digest: descriptor.Digest, Size: descriptor.Size}
	e.Target.Length = descriptor.Size
	e.Target.References = mediaTypes(manifest.References())
	if !isDigest(reference) {
		e.Target.Tag = reference
	}
	return e, nil
}

// maxMediaType is the longest media type that RFC 6838 allows.
const maxMediaType = 255

// mediaTypes is what the gateway needs of references: of what types there are. The rest
// is the client's, and could make the event so large that the gateway refuses it, although
// the manifest is stored and its tag has moved.
func mediaTypes(references []v1.Descriptor) []v1.Descriptor {
	type pair struct{ mediaType, artifactType string }
	seen := map[pair]bool{}
	var out []v1.Descriptor
	for _, r := range references {
		p := pair{r.MediaType, r.ArtifactType}
		if len(p.mediaType) > maxMediaType || len(p.artifactType) > maxMediaType {
			p = pair{} // of no type that anybody knows
		}
		if !seen[p] {
			seen[p] = true
			out = append(out, v1.Descriptor{MediaType: p.mediaType, ArtifactType: p.artifactType})
		}
	}
	return out
}

func deleteEvent(r *http.Request, repository, reference string) notifications.Event {
	e := newEvent(r, notifications.EventActionDelete, repository)
	if isDigest(reference) {
		e.Target.Digest = digest.Digest(reference)
	} else {
		e.Target.Tag = reference
	}
	return e
}

// recorder holds an answer back. Headers go where they will be sent from.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *recorder) Header() http.Header { return a.header }

func (a *recorder) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *recorder) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

func (a *recorder) copyTo(w http.ResponseWriter) {
	a.WriteHeader(http.StatusOK)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // the client went away
}
