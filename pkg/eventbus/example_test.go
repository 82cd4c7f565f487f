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
	// $JS.API.CONSUMER.CREATE.OBJ_THINGS.>
	// $JS.API.CONSUMER.DELETE.OBJ_THINGS.>
	// $JS.API.CONSUMER.INFO.JOBS.worker-jobs
	// $JS.API.CONSUMER.MSG.NEXT.JOBS.worker-jobs
	// $JS.API.DIRECT.GET.OBJ_THINGS
	// $JS.API.DIRECT.GET.OBJ_THINGS.>
	// $JS.API.STREAM.CREATE.OBJ_THINGS
	// $JS.API.STREAM.CREATE.TURNS
	// $JS.API.STREAM.INFO.LETTERS
	// $JS.API.STREAM.INFO.OBJ_THINGS
	// $JS.API.STREAM.INFO.TURNS
	// $JS.API.STREAM.MSG.DELETE.TURNS
	// $JS.API.STREAM.MSG.GET.OBJ_THINGS
	// $JS.API.STREAM.PURGE.OBJ_THINGS
	// $JS.API.STREAM.UPDATE.OBJ_THINGS
	// $JS.API.STREAM.UPDATE.TURNS
	// $JS.FC.OBJ_THINGS.>
	// $O.THINGS.C.>
	// $O.THINGS.M.>
	// test.evt.deadletter.worker.v1
	// test.lock.worker.*
	// _INBOX_worker.>
}
