package eventbus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
)

func TestTopology_Validate(t *testing.T) {
	if err := topology().Validate(); err != nil {
		t.Fatalf("the tests' own topology: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*eventbus.Topology)
		want   string
	}{
		"stream twice":          {func(t *eventbus.Topology) { t.Streams[1].Name = "JOBS" }, "defined twice"},
		"stream name":           {func(t *eventbus.Topology) { t.Streams[0].Name = "jobs.*" }, "UPPER_SNAKE_CASE"},
		"retired and in use":    {func(t *eventbus.Topology) { t.Retired = []string{"JOBS"} }, "in use and retired"},
		"wildcard":              {func(t *eventbus.Topology) { t.Streams[0].Subjects[0] = "test.>" }, "lower-case words"},
		"no subjects":           {func(t *eventbus.Topology) { t.Streams[0].Subjects = nil }, "no subjects"},
		"subject twice":         {func(t *eventbus.Topology) { t.Streams[2].Subjects = []string{subjectJobs} }, "in stream JOBS and in AUDIT"},
		"nobody publishes":      {func(t *eventbus.Topology) { delete(t.Publishers, subjectJobs) }, "nobody publishes"},
		"nobody stores":         {func(t *eventbus.Topology) { t.Publishers["test.evt.lost.v1"] = []string{"worker"} }, "no stream stores"},
		"interest, no consumer": {func(t *eventbus.Topology) { t.Streams[0].Consumers = nil }, "nobody consumes"},
		"no size":               {func(t *eventbus.Topology) { t.Streams[0].MaxBytes = 0 }, "needs limits"},
		"no retention":          {func(t *eventbus.Topology) { t.Streams[0].Retention = 0 }, "no retention"},
		"limits without age":    {func(t *eventbus.Topology) { t.Streams[2].MaxAge = time.Second }, "MaxAge"},
		"durable of another":    {func(t *eventbus.Topology) { t.Streams[0].Consumers[0].Service = "observer" }, "<service>-<purpose>"},
		"durable twice": {func(t *eventbus.Topology) {
			t.Streams[0].Consumers = append(t.Streams[0].Consumers, t.Streams[0].Consumers[0])
		}, "defined twice"},
		"foreign subject":   {func(t *eventbus.Topology) { t.Streams[0].Consumers[0].Subjects = []string{subjectAudit} }, "is not of stream"},
		"locks twice":       {func(t *eventbus.Topology) { t.Locks[0].Name = "JOBS" }, "defined twice"},
		"locks of nobody":   {func(t *eventbus.Topology) { t.Locks[0].Owner = "" }, "an owner"},
		"objects twice":     {func(t *eventbus.Topology) { t.Objects = append(t.Objects, t.Objects[0]) }, "defined twice"},
		"objects of nobody": {func(t *eventbus.Topology) { t.Objects[0].Owner = "" }, "an owner"},
		"short lease":       {func(t *eventbus.Topology) { t.Locks[0].Lease = time.Millisecond }, "lease"},
		"no backoff":        {func(t *eventbus.Topology) { t.Streams[0].Consumers[0].Backoff = nil }, "Backoff"},
	} {
		t.Run(name, func(t *testing.T) {
			top := topology()
			c.change(&top)
			if err := top.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestTopology_Permissions(t *testing.T) {
	for service, want := range map[string][]string{
		"producer": {"seaworthy.js.STREAM.INFO.JOBS", subjectJobs},
		"worker": {
			"$JS.ACK.JOBS.worker-jobs.>",
			"seaworthy.js.CONSUMER.INFO.JOBS.worker-jobs", "seaworthy.js.CONSUMER.MSG.NEXT.JOBS.worker-jobs",
			"seaworthy.js.DIRECT.GET.THINGS",
			"seaworthy.js.STREAM.INFO.JOBS", "seaworthy.js.STREAM.INFO.LETTERS", "seaworthy.js.STREAM.INFO.THINGS", "seaworthy.js.STREAM.INFO.TURNS",
			"seaworthy.js.STREAM.MSG.DELETE.THINGS", "seaworthy.js.STREAM.MSG.DELETE.TURNS",
			subjectLetter, "test.lock.worker.*", "test.obj.worker.>",
		},
		eventbus.Operator: {"seaworthy.js.STREAM.INFO.LETTERS", "seaworthy.js.STREAM.MSG.GET.LETTERS"},
		eventbus.Provisioner: {
			"$JS.API.CONSUMER.CREATE.JOBS.worker-jobs", "$JS.API.CONSUMER.CREATE.LETTERS.observer-deadletters",
			"$JS.API.CONSUMER.INFO.JOBS.worker-jobs", "$JS.API.CONSUMER.INFO.LETTERS.observer-deadletters",
			"$JS.API.CONSUMER.NAMES.AUDIT", "$JS.API.CONSUMER.NAMES.JOBS", "$JS.API.CONSUMER.NAMES.LETTERS",
			"$JS.API.CONSUMER.NAMES.THINGS", "$JS.API.CONSUMER.NAMES.TURNS",
			"$JS.API.STREAM.CREATE.AUDIT", "$JS.API.STREAM.CREATE.JOBS", "$JS.API.STREAM.CREATE.LETTERS",
			"$JS.API.STREAM.CREATE.THINGS", "$JS.API.STREAM.CREATE.TURNS",
			"$JS.API.STREAM.DELETE.OBJ_OLD",
			"$JS.API.STREAM.INFO.AUDIT", "$JS.API.STREAM.INFO.JOBS", "$JS.API.STREAM.INFO.LETTERS",
			"$JS.API.STREAM.INFO.THINGS", "$JS.API.STREAM.INFO.TURNS",
			"$JS.API.STREAM.NAMES",
			"$JS.API.STREAM.UPDATE.AUDIT", "$JS.API.STREAM.UPDATE.JOBS", "$JS.API.STREAM.UPDATE.LETTERS",
			"$JS.API.STREAM.UPDATE.THINGS", "$JS.API.STREAM.UPDATE.TURNS",
		},
		"stranger": nil,
	} {
		pub, sub := topology().Permissions(service)
		if diff := cmp.Diff(want, pub); diff != "" {
			t.Errorf("%s may publish (-want +got):\n%s", service, diff)
		}
		if diff := cmp.Diff([]string{"_INBOX_" + service + ".>"}, sub); diff != "" {
			t.Errorf("%s may subscribe (-want +got):\n%s", service, diff)
		}
	}
}

func TestConfig_Validate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*eventbus.Config)
		want   string
	}{
		"default":       {func(*eventbus.Config) {}, ""},
		"cluster":       {func(c *eventbus.Config) { c.URL = "nats://a:4222, tls://b:4222"; c.Replicas = 3 }, ""},
		"no URL":        {func(c *eventbus.Config) { c.URL = "" }, "url"},
		"other scheme":  {func(c *eventbus.Config) { c.URL = "http://a" }, "url"},
		"user in URL":   {func(c *eventbus.Config) { c.URL = "nats://me:secret@a:4222" }, "identity"},
		"even replicas": {func(c *eventbus.Config) { c.Replicas = 2 }, "replicas"},
		"negative":      {func(c *eventbus.Config) { c.PublishTimeout = -1 }, "publish_timeout"},
		"neg. deliver":  {func(c *eventbus.Config) { c.MaxDeliver = -1 }, "max_deliver"},
		"neg. backoff":  {func(c *eventbus.Config) { c.Backoff = []time.Duration{-1} }, "backoff"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := eventbus.DefaultConfig()
			c.change(&cfg)
			var p config.Problems
			cfg.Validate(&p)
			err := p.Err()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
		})
	}
}
