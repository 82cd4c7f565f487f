package events

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	eventv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/event/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
)

// Services, as they are named in the topology and in SPIFFE IDs.
const (
	Gateway  = "gateway"
	Scanner  = "scanner"
	Signer   = "signer"
	Verifier = "verifier"
	Notifier = "notifier"
)

// subjectPrefix is that of all events.
const subjectPrefix = "seaworthy.evt."

// Subjects. Each carries one message type.
const (
	SubjectImagePushed       = "seaworthy.evt.image.pushed.v1"
	SubjectImageScanned      = "seaworthy.evt.image.scanned.v1"
	SubjectImageAttested     = "seaworthy.evt.image.attested.v1"
	SubjectImageReferrer     = "seaworthy.evt.image.referrer.v1"
	SubjectImageDeleted      = "seaworthy.evt.image.deleted.v1"
	SubjectVerdictReached    = "seaworthy.evt.verdict.reached.v1"
	SubjectAdvisoriesUpdated = "seaworthy.evt.advisories.updated.v1"
	SubjectAuditRecorded     = "seaworthy.evt.audit.recorded.v1"
)

// Streams.
const (
	StreamPushed     = "PUSHED"
	StreamScanned    = "SCANNED"
	StreamAttested   = "ATTESTED"
	StreamHints      = "HINTS"
	StreamVerdicts   = "VERDICTS"
	StreamAdvisories = "ADVISORIES"
	StreamDeadLetter = "DEADLETTER"
	StreamAudit      = "AUDIT"
)

// LocksSigner are the locks with which signers take turns to write the referrers
// tag of an image.
const LocksSigner = "SIGNER_LOCKS"

// LocksScanner are the locks with which scanners take turns to fetch the feeds of
// advisories.
const LocksScanner = "SCANNER_LOCKS"

// ObjectsAdvisories holds the advisory snapshot in use, for every scanner.
const ObjectsAdvisories = "ADVISORY_SNAPSHOTS"

// Durable consumers.
const (
	ConsumerScannerScan         = "scanner-scan"
	ConsumerVerifierPushes      = "verifier-pushes"
	ConsumerSignerAttest        = "signer-attest"
	ConsumerVerifierScans       = "verifier-scans"
	ConsumerVerifierEvaluate    = "verifier-evaluate"
	ConsumerVerifierReferrers   = "verifier-referrers"
	ConsumerVerifierDeletions   = "verifier-deletions"
	ConsumerSignerVSA           = "signer-vsa"
	ConsumerNotifierDeliver     = "notifier-deliver"
	ConsumerVerifierDeadLetters = "verifier-deadletters"
)

// Sizes. A dead letter carries the whole message that it is about, so its stream
// takes larger ones than the others.
const (
	mib               = 1 << 20
	streamBytes       = 256 * mib
	maxEvent          = 256 << 10
	maxDeadLetter     = 384 << 10
	day               = 24 * time.Hour
	defaultAckWait    = 30 * time.Second
	defaultMaxDeliver = 12
)

// defaultBackoff with twelve attempts lets a dependency be away for about fifty
// minutes before anything becomes a dead letter.
var defaultBackoff = []time.Duration{
	time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
}

// DeadLetterSubject returns the subject of a service's dead letters.
func DeadLetterSubject(service string) string {
	return subjectPrefix + "deadletter." + service + ".v1"
}

// deadLetterProducers are the services with consumers, which therefore write dead letters.
// The gateway has none: it answers the sender of a bad webhook.
var deadLetterProducers = []string{Scanner, Signer, Verifier, Notifier}

// Topology is all streams of the fleet. Streams are made together with their
// consumers, so that no fact is lost to a service that has not started yet. Where
// somebody consumes, messages stay until all have.
var Topology = eventbus.Topology{
	Streams: []eventbus.Stream{
		interest(StreamPushed, SubjectImagePushed,
			consumer(ConsumerScannerScan, Scanner, SubjectImagePushed),
			consumer(ConsumerVerifierPushes, Verifier, SubjectImagePushed)),
		interest(StreamScanned, SubjectImageScanned,
			consumer(ConsumerSignerAttest, Signer, SubjectImageScanned),
			consumer(ConsumerVerifierScans, Verifier, SubjectImageScanned)),
		interest(StreamAttested, SubjectImageAttested,
			consumer(ConsumerVerifierEvaluate, Verifier, SubjectImageAttested)),
		hints(),
		interest(StreamVerdicts, SubjectVerdictReached,
			consumer(ConsumerSignerVSA, Signer, SubjectVerdictReached),
			consumer(ConsumerNotifierDeliver, Notifier, SubjectVerdictReached)),
		{
			Name: StreamAdvisories, Subjects: []string{SubjectAdvisoriesUpdated},
			Retention: eventbus.Limits, MaxBytes: 16 * mib, MaxAge: 7 * day, MaxMsgSize: maxEvent,
		},
		{
			// A letter leaves the stream when the verifier has stored it.
			Name: StreamDeadLetter, Subjects: deadLetterSubjects(),
			Retention: eventbus.Interest, MaxBytes: streamBytes, MaxMsgSize: maxDeadLetter,
			Consumers: []eventbus.Consumer{deadLetterConsumer()},
		},
		{
			Name: StreamAudit, Subjects: []string{SubjectAuditRecorded},
			Retention: eventbus.Limits, MaxBytes: streamBytes, MaxAge: 365 * day, MaxMsgSize: maxEvent,
		},
	},
	Publishers: publishers(),
	Locks: []eventbus.Locks{
		{Name: LocksSigner, Owner: Signer, Prefix: "seaworthy.lock.signer", Lease: 15 * time.Second},
		{Name: LocksScanner, Owner: Scanner, Prefix: "seaworthy.lock.scanner", Lease: 30 * time.Second},
	},
	Objects: []eventbus.Objects{
		{Name: ObjectsAdvisories, Owner: Scanner, Prefix: "seaworthy.obj.scanner", MaxBytes: 1024 * mib},
	},
	// The bucket that earlier releases shared advisory snapshots in.
	Retired: []string{"OBJ_ADVISORY_SNAPSHOTS"},
}

// publishers says who may publish what. Operators may publish what the services
// publish, to replay it, but no dead letter and no audit record.
func publishers() map[string][]string {
	p := map[string][]string{
		SubjectImagePushed:       {Gateway, Scanner, eventbus.Operator},
		SubjectImageScanned:      {Scanner, eventbus.Operator},
		SubjectImageAttested:     {Signer, eventbus.Operator},
		SubjectImageReferrer:     {Gateway, Scanner, eventbus.Operator},
		SubjectImageDeleted:      {Gateway, Scanner, eventbus.Operator},
		SubjectVerdictReached:    {Verifier, eventbus.Operator},
		SubjectAdvisoriesUpdated: {Scanner},
		SubjectAuditRecorded:     {Scanner, Signer, Verifier, Notifier},
	}
	for _, service := range deadLetterProducers {
		p[DeadLetterSubject(service)] = []string{service}
	}
	return p
}

func deadLetterSubjects() []string {
	subjects := make([]string, len(deadLetterProducers))
	for i, service := range deadLetterProducers {
		subjects[i] = DeadLetterSubject(service)
	}
	return subjects
}

func interest(name, subject string, consumers ...eventbus.Consumer) eventbus.Stream {
	return eventbus.Stream{
		Name: name, Subjects: []string{subject}, Retention: eventbus.Interest,
		MaxBytes: streamBytes, MaxMsgSize: maxEvent, Consumers: consumers,
	}
}

// hints is the stream of what makes the verifier read the registry again. It is
// apart from PUSHED so that many pushed referrers cannot fill the stream of the
// pushes.
func hints() eventbus.Stream {
	return eventbus.Stream{
		Name: StreamHints, Subjects: []string{SubjectImageReferrer, SubjectImageDeleted},
		Retention: eventbus.Interest, MaxBytes: streamBytes, MaxMsgSize: maxEvent,
		Consumers: []eventbus.Consumer{
			consumer(ConsumerVerifierReferrers, Verifier, SubjectImageReferrer),
			consumer(ConsumerVerifierDeletions, Verifier, SubjectImageDeleted),
		},
	}
}

func consumer(durable, service string, subjects ...string) eventbus.Consumer {
	return eventbus.Consumer{
		Durable: durable, Service: service, Subjects: subjects, AckWait: defaultAckWait,
		MaxDeliver: defaultMaxDeliver, Backoff: defaultBackoff,
	}
}

func deadLetterConsumer() eventbus.Consumer {
	c := consumer(ConsumerVerifierDeadLetters, Verifier, deadLetterSubjects()...)
	// A dead letter of a dead letter would come back to the same consumer.
	c.NoDeadLetter = true
	return c
}

// messageOf is the message type of each subject.
var messageOf = map[string]proto.Message{
	SubjectImagePushed:       (*eventv1.ImagePushedEvent)(nil),
	SubjectImageScanned:      (*eventv1.ImageScannedEvent)(nil),
	SubjectImageAttested:     (*eventv1.ImageAttestedEvent)(nil),
	SubjectImageReferrer:     (*eventv1.ImageReferrerEvent)(nil),
	SubjectImageDeleted:      (*eventv1.ImageDeletedEvent)(nil),
	SubjectVerdictReached:    (*eventv1.VerdictReachedEvent)(nil),
	SubjectAdvisoriesUpdated: (*eventv1.AdvisoriesUpdatedEvent)(nil),
	SubjectAuditRecorded:     (*eventv1.AuditRecordedEvent)(nil),
}

// subjectOf is the subject of each message type but DeadLetterEvent, which has
// one per service.
var subjectOf = func() map[protoreflect.FullName]string {
	m := make(map[protoreflect.FullName]string, len(messageOf))
	for subject, e := range messageOf {
		m[typeOf(e)] = subject
	}
	return m
}()

func typeOf(e proto.Message) protoreflect.FullName {
	return e.ProtoReflect().Descriptor().FullName()
}
