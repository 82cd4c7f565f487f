// Command verifier judges images by signed evidence and policies.
package main

import (
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/verifier/app"
)

func main() { service.Main(app.Definition) }
