// The scanner of a Seaworthy fleet.
package main

import (
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/scanner/app"
)

func main() { service.Main(app.Definition) }
