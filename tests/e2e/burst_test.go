package e2e

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	typev1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/type/v1"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/tests/internal/allinone"
	"github.com/seaworthy-dev/seaworthy/tests/internal/images"
)

// TestE2E_PushBehindABurst: an image that is pushed to a repository of its own after a
// burst to others is judged before most of the burst. SEAWORTHY_BURST sets the size of
// the burst, to measure.
func TestE2E_PushBehindABurst(t *testing.T) {
	size := 200
	if s := os.Getenv("SEAWORTHY_BURST"); s != "" {
		var err error
		if size, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	for name, repositories := range map[string]int{"one repository": 1, "fifty repositories": 50} {
		t.Run(name, func(t *testing.T) {
			a := allinone.Start(t, nil)
			warm := images.Push(t, images.Clean(t, "warm"), a.Registry()+"/other/warm:v1")
			a.Verdict(t, warm)
			began := time.Now()
			burst := make([]string, size)
			var pushes errgroup.Group
			pushes.SetLimit(16)
			for i := range burst {
				pushes.Go(func() error {
					burst[i] = images.Push(t, images.Clean(t, strconv.Itoa(i)), fmt.Sprintf("%s/burst/app%d:v%d", a.Registry(), i%repositories, i))
					return nil
				})
			}
			if err := pushes.Wait(); err != nil {
				t.Fatal(err)
			}
			took, before := time.Since(began), judged(t, a, burst)
			began = time.Now()
			a.Verdict(t, images.Push(t, images.Clean(t, "fresh"), a.Registry()+"/fresh/app:v1"))
			waited, after := time.Since(began), judged(t, a, burst)
			t.Logf("%d pushed in %.1fs, %d judged by then; the fresh one took %.1fs, and %d of the burst were judged meanwhile",
				size, took.Seconds(), before, waited.Seconds(), after-before)
			if left := size - before; 4*(after-before) > left {
				t.Errorf("%d of %d images that waited were judged before the fresh one", after-before, left)
			}
		})
	}
}

// judged counts the images that have a verdict.
func judged(t *testing.T, a *allinone.AllInOne, digests []string) int {
	t.Helper()
	n := 0
	for len(digests) > 0 {
		page := digests[:min(500, len(digests))]
		digests = digests[len(page):]
		request := &verifierv1.BatchGetVerdictsRequest{}
		for _, d := range page {
			request.Images = append(request.Images, &typev1.ImageRef{Digest: d})
		}
		answer, err := a.Verifier.BatchGetVerdicts(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range answer.GetVerdicts() {
			if v.GetState() == verifierv1.Verdict_STATE_PASS {
				n++
			}
		}
	}
	return n
}
