// Command sigstore-kms-awskms is the KMS plugin for keys awskms://, of the signer
// and of cosign.
package main

import (
	"os"

	_ "github.com/sigstore/sigstore/pkg/signature/kms/aws" // registers the scheme

	"github.com/seaworthy-dev/seaworthy/tools/kms/plugin"
)

func main() { os.Exit(plugin.Main("awskms", os.Args, os.Stdin, os.Stdout, os.Stderr)) }
