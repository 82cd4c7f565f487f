// Command signer runs the signer.
package main

import (
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/signer/app"
)

func main() { service.Main(app.Definition) }
