// Command notifier tells subscribers about verdicts.
package main

import (
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/notifier/app"
)

func main() { service.Main(app.Definition) }
