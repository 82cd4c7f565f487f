package eventbus_test

import (
	"errors"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/eventbus"
)

// A handler says with its error whether trying again makes sense.
func ExamplePermanent() {
	temporary := errors.New("registry does not answer")
	hopeless := eventbus.Permanent("NOT_AN_IMAGE", errors.New("manifest is a Helm chart"))
	for _, err := range []error{temporary, fmt.Errorf("scan: %w", hopeless)} {
		fmt.Println(eventbus.IsPermanent(err), eventbus.Reason(err))
	}
	// Output:
	// false INTERNAL
	// true NOT_AN_IMAGE
}

// Each service may touch its own subjects and nothing else.
func ExampleTopology_Permissions() {
	pub, sub := topology().Permissions("worker")
	for _, s := range append(pub, sub...) {
		fmt.Println(s)
	}
	// Output:
	// $JS.ACK.JOBS.worker-jobs.>
	// seaworthy.js.CONSUMER.INFO.JOBS.worker-jobs
	// seaworthy.js.CONSUMER.MSG.NEXT.JOBS.worker-jobs
	// seaworthy.js.DIRECT.GET.THINGS
	// seaworthy.js.STREAM.INFO.JOBS
	// seaworthy.js.STREAM.INFO.LETTERS
	// seaworthy.js.STREAM.INFO.THINGS
	// seaworthy.js.STREAM.INFO.TURNS
	// seaworthy.js.STREAM.MSG.DELETE.THINGS
	// seaworthy.js.STREAM.MSG.DELETE.TURNS
	// test.evt.deadletter.worker.v1
	// test.lock.worker.*
	// test.obj.worker.>
	// _INBOX_worker.>
}
