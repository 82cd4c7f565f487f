package tlsx_test

import (
	"fmt"
	"os"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/tlsx"
)

func ExampleCA_Issue() {
	dir, err := os.MkdirTemp("", "ca")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()

	ca, err := tlsx.LoadOrCreateCA(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	files, err := ca.Issue(dir, "scanner", tlsx.ServiceID("seaworthy.local", "scanner"), 24*time.Hour)
	if err != nil {
		fmt.Println(err)
		return
	}
	source, err := tlsx.NewSource(files)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(source.ID())
	// Output: spiffe://seaworthy.local/service/scanner
}
