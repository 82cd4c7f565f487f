// Ledger is the program inside the demo's images: it prints the fingerprint of an
// SSH public key and the display name of a language tag. It is built twice from
// this source, once with old dependencies (vulnerable.mod) and once with current
// ones (go.mod), so that the two images differ only in what their packages are.
package main

import (
	"fmt"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/text/language"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: ledger PUBLIC_KEY LANGUAGE_TAG")
		os.Exit(2)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(os.Args[1]))
	if err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
	tags, _, err := language.ParseAcceptLanguage(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
	fmt.Println(ssh.FingerprintSHA256(key), tags)
}
