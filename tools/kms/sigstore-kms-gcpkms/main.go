// Command sigstore-kms-gcpkms is the KMS plugin for keys gcpkms://, of the signer
// and of cosign.
package main

import (
	"os"

	_ "github.com/sigstore/sigstore/pkg/signature/kms/gcp" // registers the scheme

	"github.com/seaworthy-dev/seaworthy/tools/kms/plugin"
)

func main() { os.Exit(plugin.Main("gcpkms", os.Args, os.Stdin, os.Stdout, os.Stderr)) }
