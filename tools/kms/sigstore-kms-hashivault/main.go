// Command sigstore-kms-hashivault is the KMS plugin for keys hashivault://, of the signer
// and of cosign.
package main

import (
	"os"

	_ "github.com/sigstore/sigstore/pkg/signature/kms/hashivault" // registers the scheme

	"github.com/seaworthy-dev/seaworthy/tools/kms/plugin"
)

func main() { os.Exit(plugin.Main("hashivault", os.Args, os.Stdin, os.Stdout, os.Stderr)) }
