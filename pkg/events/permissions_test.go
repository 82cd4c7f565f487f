package events_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus/eventbustest"
	"github.com/seaworthy-dev/seaworthy/pkg/events"
	"github.com/seaworthy-dev/seaworthy/pkg/events/eventstest"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

var (
	rootID     = tlsx.OperatorID(eventbustest.TrustDomain, "root")
	observerID = tlsx.ClientID(eventbustest.TrustDomain, "observer")
)

// identities are everybody whom a server lets in, and their certificates.
func identities() map[string]string {
	out := map[string]string{
		eventbus.Operator:    tlsx.OperatorID(eventbustest.TrustDomain, eventstest.OperatorName),
		eventbus.Provisioner: tlsx.ServiceID(eventbustest.TrustDomain, eventbus.Provisioner),
	}
	for _, s := range events.Topology.Services() {
		out[s] = tlsx.ServiceID(eventbustest.TrustDomain, s)
	}
	return out
}

// rights is what each identity may say, written by hand: events by the last words of
// their subject, consumers by name. Nobody else may anything of it.
var rights = map[string]struct{ events, consumers, locks, objects []string }{
	events.Gateway: {events: []string{"image.pushed", "image.referrer", "image.deleted"}},
	events.Scanner: {
		events:    []string{"image.pushed", "image.referrer", "image.deleted", "image.scanned", "advisories.updated", "audit.recorded", "deadletter.scanner"},
		consumers: []string{"PUSHED.scanner-scan"},
		locks:     []string{"SCANNER_LOCKS"}, objects: []string{"ADVISORY_SNAPSHOTS"},
	},
	events.Signer: {
		events:    []string{"image.attested", "audit.recorded", "deadletter.signer"},
		consumers: []string{"SCANNED.signer-attest", "VERDICTS.signer-vsa"},
		locks:     []string{"SIGNER_LOCKS"},
	},
	events.Verifier: {
		events: []string{"verdict.reached", "audit.recorded", "deadletter.verifier"},
		consumers: []string{
			"PUSHED.verifier-pushes", "SCANNED.verifier-scans", "ATTESTED.verifier-evaluate", "DEADLETTER.verifier-deadletters",
			"HINTS.verifier-referrers", "HINTS.verifier-deletions",
		},
	},
	events.Notifier: {
		events:    []string{"audit.recorded", "deadletter.notifier"},
		consumers: []string{"VERDICTS.notifier-deliver"},
	},
	eventbus.Operator:    {events: []string{"image.pushed", "image.referrer", "image.deleted", "image.scanned", "image.attested", "verdict.reached"}},
	eventbus.Provisioner: {},
	"observer":           {},
}

// natsServer is a server in one of its two shapes.
type natsServer struct {
	url   string
	tlsOf func(id string) *tlsx.Source
	ids   map[string]string
}

// eachShape runs a test on the embedded server and on one with the file we ship, both
// with all streams.
func eachShape(t *testing.T, test func(t *testing.T, s natsServer)) {
	t.Helper()
	provision := func(t *testing.T, s natsServer) {
		t.Helper()
		bus, err := events.Connect(t.Context(), eventbus.Config{URL: s.url}, eventbus.Provisioner, s.tlsOf(s.ids[eventbus.Provisioner]), obs.Discard("topology"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		defer cancel()
		if _, err := bus.Apply(ctx); err != nil {
			t.Fatal(err)
		}
		if err := bus.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("embedded", func(t *testing.T) {
		users := append(events.Users(eventbustest.TrustDomain, eventstest.OperatorName), events.Observer(observerID),
			eventbus.User{ID: rootID, Account: eventbus.Account, Pub: []string{">"}, Sub: []string{">"}})
		srv := eventbustest.Start(t, users)
		s := natsServer{url: srv.URL(), tlsOf: srv.TLS, ids: identities()}
		s.ids["observer"] = observerID
		provision(t, s)
		test(t, s)
	})
	t.Run("nats.conf", func(t *testing.T) {
		srv, tlsOf := startShipped(t)
		s := natsServer{url: "nats://" + srv.Addr().String(), tlsOf: tlsOf, ids: identities()}
		provision(t, s)
		test(t, s)
	})
}

// probe is a plain connection with one identity's rights.
type probe struct {
	t  *testing.T
	nc *nats.Conn

	mu      sync.Mutex
	refused []string
}

func (s natsServer) probe(t *testing.T, name string) *probe {
	t.Helper()
	id := s.ids[name]
	if name == "root" {
		id = rootID
	}
	p := &probe{t: t}
	nc, err := nats.Connect(s.url, nats.Secure(s.tlsOf(id).Client(tlsx.ServiceID(eventbustest.TrustDomain, eventbus.Server))),
		nats.CustomInboxPrefix("_INBOX_"+name),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.refused = append(p.refused, err.Error())
		}))
	if err != nil {
		t.Fatalf("connect as %s: %v", name, err)
	}
	closed := make(chan struct{})
	nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
	t.Cleanup(func() { nc.Close(); <-closed })
	p.nc = nc
	return p
}

// refusals returns what the server refused since the last call. The client hands errors to
// the handler in order, so all are there once what nobody may publish is refused, too.
func (p *probe) refusals() []string {
	p.t.Helper()
	const last = "last.of.all"
	if err := errors.Join(p.nc.Publish(last, nil), p.nc.Flush()); err != nil {
		p.t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		out := p.refused
		if n := len(out) - 1; n >= 0 && strings.Contains(out[n], last) {
			p.refused = nil
			p.mu.Unlock()
			return out[:n]
		}
		p.mu.Unlock()
		if time.Now().After(end) {
			p.t.Fatalf("the server refused only %q", out)
		}
	}
}

// everything is one subject of each kind there is.
func everything() []string {
	subjects := slices.Collect(maps.Keys(events.Topology.Publishers))
	streams := []string{"SIGNER_LOCKS", "SCANNER_LOCKS", "ADVISORY_SNAPSHOTS", "OTHER"}
	for _, s := range events.Topology.Streams {
		streams = append(streams, s.Name)
	}
	for _, prefix := range []string{"$JS.API", "seaworthy.js"} {
		for _, s := range streams {
			for _, call := range []string{
				"STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.INFO", "STREAM.MSG.GET", "STREAM.MSG.DELETE",
				"STREAM.SNAPSHOT", "STREAM.RESTORE", "STREAM.PEER.REMOVE", "STREAM.LEADER.STEPDOWN", "DIRECT.GET",
				"CONSUMER.CREATE", "CONSUMER.NAMES", "CONSUMER.LIST",
			} {
				subjects = append(subjects, prefix+"."+call+"."+s)
			}
		}
		for _, s := range events.Topology.Streams {
			for _, c := range s.Consumers {
				of := s.Name + "." + c.Durable
				for _, call := range []string{
					"CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE", "CONSUMER.DELETE", "CONSUMER.INFO", "CONSUMER.MSG.NEXT",
					"CONSUMER.PAUSE", "CONSUMER.RESET", "CONSUMER.UNPIN", "CONSUMER.LEADER.STEPDOWN",
				} {
					subjects = append(subjects, prefix+"."+call+"."+of)
				}
			}
			subjects = append(subjects, prefix+".CONSUMER.CREATE."+s.Name+".mine", prefix+".CONSUMER.CREATE."+s.Name+".mine."+s.Subjects[0],
				prefix+".DIRECT.GET."+s.Name+"."+s.Subjects[0])
		}
		subjects = append(subjects, prefix+".INFO", prefix+".STREAM.NAMES", prefix+".STREAM.LIST", prefix+".META.LEADER.STEPDOWN", prefix+".ACCOUNT.PURGE.FLEET")
	}
	for _, s := range events.Topology.Streams {
		for _, c := range s.Consumers {
			subjects = append(subjects, "$JS.ACK."+s.Name+"."+c.Durable+".1.1.1.1.0")
		}
		subjects = append(subjects, "$JS.FC."+s.Name+".x.y")
	}
	return append(subjects,
		"seaworthy.lock.signer.x", "seaworthy.lock.scanner.x", "seaworthy.obj.scanner.x", "seaworthy.obj.scanner.x.y",
		"$O.ADVISORY_SNAPSHOTS.C.x", "$O.ADVISORY_SNAPSHOTS.M.x", "$KV.LOCKS.x", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO",
		"$SYS.REQ.ACCOUNT.PING.CONNZ", "$JS.EVENT.ADVISORY.x", "_R_.x", "_INBOX.x", "_INBOX_verifier.x", "_INBOX_topology.x",
		"seaworthy.evt.unknown.v1", "anything")
}

// mayPublish says by hand what the rights come to.
func mayPublish(who, subject string) bool {
	r := rights[who]
	for _, e := range r.events {
		if subject == "seaworthy.evt."+e+".v1" {
			return true
		}
	}
	for _, c := range r.consumers {
		if subject == "seaworthy.js.CONSUMER.INFO."+c || subject == "seaworthy.js.CONSUMER.MSG.NEXT."+c || strings.HasPrefix(subject, "$JS.ACK."+c+".") {
			return true
		}
	}
	for _, l := range r.locks {
		if subject == "seaworthy.js.STREAM.INFO."+l || subject == "seaworthy.js.STREAM.MSG.DELETE."+l || subject == "seaworthy.lock."+who+".x" {
			return true
		}
	}
	for _, o := range r.objects {
		if subject == "seaworthy.js.STREAM.INFO."+o || subject == "seaworthy.js.STREAM.MSG.DELETE."+o || subject == "seaworthy.js.DIRECT.GET."+o ||
			strings.HasPrefix(subject, "seaworthy.obj."+who+".") {
			return true
		}
	}
	for _, s := range events.Topology.Streams {
		consumes := slices.ContainsFunc(r.consumers, func(c string) bool { return strings.HasPrefix(c, s.Name+".") })
		publishes := slices.ContainsFunc(r.events, func(e string) bool { return slices.Contains(s.Subjects, "seaworthy.evt."+e+".v1") })
		if subject == "seaworthy.js.STREAM.INFO."+s.Name && (consumes || publishes) {
			return true
		}
	}
	switch who {
	case eventbus.Operator:
		return subject == "seaworthy.js.STREAM.INFO.DEADLETTER" || subject == "seaworthy.js.STREAM.MSG.GET.DEADLETTER"
	case eventbus.Provisioner:
		for _, c := range []string{"STREAM.CREATE.", "STREAM.UPDATE.", "STREAM.INFO.", "CONSUMER.NAMES."} {
			if stream, ok := strings.CutPrefix(subject, "$JS.API."+c); ok && stream != "OTHER" {
				return true
			}
		}
		for _, s := range events.Topology.Streams {
			for _, c := range s.Consumers {
				if of := s.Name + "." + c.Durable; subject == "$JS.API.CONSUMER.CREATE."+of || subject == "$JS.API.CONSUMER.INFO."+of {
					return true
				}
			}
		}
		return subject == "$JS.API.STREAM.NAMES"
	}
	return false
}

// Identity × subject × publish, on a real server.
func TestPermissions_Publish(t *testing.T) {
	subjects := everything()
	eachShape(t, func(t *testing.T, s natsServer) {
		t.Helper()
		for name := range s.ids {
			t.Run(name, func(t *testing.T) {
				p := s.probe(t, name)
				for _, subject := range subjects {
					if err := p.nc.Publish(subject, nil); err != nil {
						t.Fatal(err)
					}
				}
				refused := map[string]bool{}
				for _, r := range p.refusals() {
					for _, subject := range subjects {
						if strings.Contains(r, `ublish to "`+subject+`"`) || strings.Contains(r, `ublish to \"`+subject+`\"`) {
							refused[subject] = true
						}
					}
				}
				for _, subject := range subjects {
					if may := mayPublish(name, subject); may == refused[subject] {
						t.Errorf("publish %s: refused %v, but may %v", subject, refused[subject], may)
					}
				}
			})
		}
	})
}

// Identity × subject × subscribe.
func TestPermissions_Subscribe(t *testing.T) {
	subjects := append(everything(), ">", "*", "seaworthy.>", "seaworthy.evt.>", "$JS.>", "$JS.API.>", "$JS.EVENT.>", "_INBOX.>", "_R_.>", "_INBOX_*.>", "$SYS.>")
	eachShape(t, func(t *testing.T, s natsServer) {
		t.Helper()
		for name := range s.ids {
			t.Run(name, func(t *testing.T) {
				p := s.probe(t, name)
				wanted := append([]string{"_INBOX_" + name + ".a.b"}, subjects...)
				for _, subject := range wanted {
					if _, err := p.nc.SubscribeSync(subject); err != nil {
						t.Fatal(err)
					}
					if _, err := p.nc.QueueSubscribeSync(subject, "q"); err != nil {
						t.Fatal(err)
					}
				}
				refused := map[string]int{}
				for _, r := range p.refusals() {
					for _, subject := range wanted {
						if strings.Contains(r, `ubscription to "`+subject+`"`) {
							refused[subject]++
						}
					}
				}
				for _, subject := range wanted {
					may := strings.HasPrefix(subject, "_INBOX_"+name+".") && name != "observer" ||
						name == "observer" && strings.HasPrefix(subject, "seaworthy.evt.")
					want := 2
					if may {
						want = 0
					}
					if refused[subject] != want {
						t.Errorf("subscribe to %s: refused %d times, want %d", subject, refused[subject], want)
					}
				}
			})
		}
	})
}

// state is what the server has: the configuration of every stream and consumer, and
// the subjects of what is stored.
func state(t *testing.T, root *probe) (configs map[string]string, stored map[string]map[string]uint64) {
	t.Helper()
	js, err := jetstream.New(root.nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	configs, stored = map[string]string{}, map[string]map[string]uint64{}
	note := func(name string, config any) {
		data, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		configs[name] = string(data)
	}
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		st, err := js.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		info, err := st.Info(ctx, jetstream.WithSubjectFilter(">"))
		if err != nil {
			t.Fatal(err)
		}
		note(name, info.Config)
		stored[name] = info.State.Subjects
		consumers := st.ListConsumers(ctx)
		for c := range consumers.Info() {
			note(name+"/"+c.Name, c.Config)
		}
		if err := consumers.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := names.Err(); err != nil {
		t.Fatal(err)
	}
	return configs, stored
}

// Nobody but the provisioner changes a stream or a consumer, whatever field it tries,
// over either path to the API.
func TestPermissions_NobodyChangesTheTopology(t *testing.T) {
	eachShape(t, func(t *testing.T, s natsServer) {
		t.Helper()
		root := s.probe(t, "root")
		before, _ := state(t, root)
		for name := range s.ids {
			if name == eventbus.Provisioner {
				continue
			}
			p := s.probe(t, name)
			for _, prefix := range []string{"$JS.API", "seaworthy.js"} {
				for _, own := range events.Topology.Streams {
					for field, value := range map[string]any{
						"republish":         map[string]any{"src": own.Subjects[0], "dest": events.SubjectVerdictReached},
						"sources":           []any{map[string]any{"name": events.StreamVerdicts}},
						"mirror":            map[string]any{"name": events.StreamVerdicts},
						"subject_transform": map[string]any{"src": own.Subjects[0], "dest": events.SubjectVerdictReached},
						"subjects":          []string{"seaworthy.evt.>"},
						"retention":         "limits", "no_ack": true, "sealed": true, "allow_rollup_hdrs": true, "allow_direct": true,
						"allow_msg_schedules": true, "allow_msg_ttl": true, "max_age": int64(time.Second), "max_bytes": 1,
					} {
						config := map[string]any{
							"name": own.Name, "subjects": own.Subjects, "retention": "interest", "discard": "new",
							"storage": "file", "num_replicas": 1, "max_bytes": own.MaxBytes, "max_age": int64(own.MaxAge),
							"max_msg_size": own.MaxMsgSize, "duplicate_window": int64(2 * time.Minute),
						}
						config[field] = value
						data, err := json.Marshal(config)
						if err != nil {
							t.Fatal(err)
						}
						for _, call := range []string{"UPDATE", "CREATE"} {
							_ = p.nc.Publish(prefix+".STREAM."+call+"."+own.Name, data)
						}
					}
					for _, c := range append(own.Consumers, eventbus.Consumer{Durable: "mine"}) {
						data := fmt.Appendf(nil, `{"stream_name":%q,"config":{"durable_name":%q,"deliver_subject":%q,"ack_policy":"none"}}`,
							own.Name, c.Durable, events.SubjectVerdictReached)
						for _, call := range []string{"CREATE.", "DURABLE.CREATE."} {
							_ = p.nc.Publish(prefix+".CONSUMER."+call+own.Name+"."+c.Durable, data)
						}
					}
				}
			}
			if err := p.nc.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		after, _ := state(t, root)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("the topology changed (-before +after):\n%s", diff)
		}
	})
}

// A server answers a request on whatever subject the client names, and with what the
// client has stored itself if it asks for a message. Observed on `>`: nothing of an
// identity arrives outside its own subjects, whatever it asks, whichever reply and
// headers it gives.
func TestPermissions_NothingOutsideOwnSubjects(t *testing.T) {
	targets := append(slices.Collect(maps.Keys(events.Topology.Publishers)),
		"seaworthy.lock.signer.x", "seaworthy.lock.scanner.x", "seaworthy.obj.scanner.forged",
		"$JS.API.STREAM.DELETE.VERDICTS", "$JS.API.STREAM.PURGE.AUDIT", "$JS.ACK.VERDICTS.notifier-deliver.1.1.1.1.0",
		"_INBOX_verifier.x", "_INBOX_topology.x", "_R_.x", "$JS.FC.VERDICTS.x.y")
	headers := []nats.Header{
		nil,
		{"Nats-Rollup": {"all"}}, {"Nats-Rollup": {"sub"}},
		{"Nats-TTL": {"1s"}},
		{"Nats-Schedule": {"@at 2020-01-01T00:00:00Z"}, "Nats-Schedule-Target": {events.SubjectVerdictReached}},
		{"Nats-Expected-Stream": {events.StreamVerdicts}},
		{"Nats-Trace-Dest": {events.SubjectVerdictReached}},
		{"Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {"1"}, "Nats-Batch-Commit": {"1"}},
		{"Nats-Request-Info": {`{"acc":"VERIFIER"}`}},
	}
	const mark = "forged by "
	eachShape(t, func(t *testing.T, s natsServer) {
		t.Helper()
		root := s.probe(t, "root")
		for name := range s.ids {
			if name == eventbus.Provisioner {
				continue // it makes the streams, so it is trusted with them
			}
			t.Run(name, func(t *testing.T) {
				var mu sync.Mutex
				seen := map[string]bool{}
				watch, err := root.nc.Subscribe(">", func(m *nats.Msg) {
					mu.Lock()
					defer mu.Unlock()
					if strings.Contains(string(m.Data), mark+name) {
						seen[m.Subject] = true
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = watch.Unsubscribe() }()
				if err := root.nc.Flush(); err != nil {
					t.Fatal(err)
				}
				before := settled(t, root)

				p := s.probe(t, name)
				body := []byte(mark + name)
				for _, subject := range everything() {
					if !mayPublish(name, subject) {
						continue
					}
					request := body
					switch {
					case strings.Contains(subject, ".CONSUMER.MSG.NEXT."):
						request = []byte(`{"batch":100,"no_wait":true}`)
					case strings.Contains(subject, ".DIRECT.GET."):
						request = []byte(`{"last_by_subj":"seaworthy.obj.scanner.x"}`)
					case strings.Contains(subject, ".MSG.GET."):
						request = []byte(`{"seq":1}`)
					case strings.Contains(subject, ".MSG.DELETE."):
						continue // of own messages; it would take away what shall be asked for
					case strings.HasPrefix(subject, "$JS.ACK."):
						// A request that stays open would be answered in another test.
						request = []byte(`+NXT {"batch":1,"no_wait":true}`)
					}
					for _, reply := range append([]string{""}, targets...) {
						for _, h := range headers {
							_ = p.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: request, Header: h})
						}
					}
				}
				if err := p.nc.Flush(); err != nil {
					t.Fatal(err)
				}
				after := settled(t, root)
				if err := root.nc.Flush(); err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for subject := range seen {
					// Inside the account a request of another one has a reply that the
					// server made and that leads back to it, and the server reports API
					// calls on a subject that only it may use.
					if !mayPublish(name, subject) && !strings.HasPrefix(subject, "_R_.") && !ownRequest(name, subject) &&
						!strings.HasPrefix(subject, "$JS.EVENT.ADVISORY.") {
						t.Errorf("observed on %s", subject)
					}
				}
				for stream, subjects := range after {
					for subject, n := range subjects {
						// What a client asks for on one of its own subjects keeps the subject
						// that it was stored with.
						if n > before[stream][subject] && !mayFill(name, stream) {
							t.Errorf("stream %s: %d messages more of %s", stream, n-before[stream][subject], subject)
						}
					}
					for subject, n := range before[stream] {
						// A lock ends by itself after its lease.
						isLock := slices.ContainsFunc(events.Topology.Locks, func(l eventbus.Locks) bool { return l.Name == stream })
						if subjects[subject] < n && !mayPublish(name, subject) && !mayConsume(name, stream) && !isLock {
							t.Errorf("stream %s: %d messages less of %s", stream, n-subjects[subject], subject)
						}
					}
				}
			})
		}
	})
}

// ownRequest tells whether a subject inside the account is a request that the
// identity may make, under its name there.
func ownRequest(name, subject string) bool {
	call, ok := strings.CutPrefix(subject, "$JS.API.")
	return ok && mayPublish(name, "seaworthy.js."+call)
}

// mayFill tells whether an identity may publish into a stream.
func mayFill(name, stream string) bool {
	r := rights[name]
	if slices.Contains(r.locks, stream) || slices.Contains(r.objects, stream) {
		return true
	}
	for _, s := range events.Topology.Streams {
		if s.Name == stream {
			return slices.ContainsFunc(s.Subjects, func(subject string) bool { return mayPublish(name, subject) })
		}
	}
	return false
}

func mayConsume(name, stream string) bool {
	return slices.ContainsFunc(rights[name].consumers, func(c string) bool { return strings.HasPrefix(c, stream+".") })
}

// settled returns what is stored when the server has stored all it was sent: a stream
// takes messages in their order, so it answers the refused one of root last.
func settled(t *testing.T, root *probe) map[string]map[string]uint64 {
	t.Helper()
	js, err := jetstream.New(root.nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, stored := state(t, root)
	for name := range stored {
		st, err := js.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		subject := strings.NewReplacer("*", "fence", ">", "fence").Replace(st.CachedInfo().Config.Subjects[0])
		var refused *jetstream.APIError
		if _, err := js.Publish(ctx, subject, nil, jetstream.WithExpectLastSequence(1<<40)); !errors.As(err, &refused) {
			t.Fatalf("fence of %s: %v", name, err)
		}
	}
	_, stored = state(t, root)
	return stored
}
