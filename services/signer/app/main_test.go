package app_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/seaworthy-dev/seaworthy/services/signer/internal/kmstest"
)

func TestMain(m *testing.M) {
	kmstest.Main()
	goleak.VerifyTestMain(m)
}
