// Command sigstore-kms-azurekms is the KMS plugin for keys azurekms://, of the signer
// and of cosign.
package main

import (
	"os"

	_ "github.com/sigstore/sigstore/pkg/signature/kms/azure" // registers the scheme

	"github.com/seaworthy-dev/seaworthy/tools/kms/plugin"
)

func main() { os.Exit(plugin.Main("azurekms", os.Args, os.Stdin, os.Stdout, os.Stderr)) }
