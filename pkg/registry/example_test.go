package registry_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/seaworthy-dev/seaworthy/pkg/imageref"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
	"github.com/seaworthy-dev/seaworthy/pkg/registry"
)

func ExampleClient_Resolve() {
	c, err := registry.New(registry.Config{Registries: []registry.Host{{Host: "registry.example"}}}, obs.Discard("example"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ref, err := imageref.Parse("elsewhere.example/team/app:v1")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = c.Resolve(context.Background(), ref)
	fmt.Println(errors.Is(err, registry.ErrNotAllowed), registry.Temporary(err))
	// Output: true false
}
