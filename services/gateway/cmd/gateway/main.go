// Command gateway takes the webhooks of registries and stores their pushes as events.
package main

import (
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/gateway/app"
)

func main() { service.Main(app.Definition) }
