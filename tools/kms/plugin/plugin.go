// Package plugin answers the calls of Sigstore's protocol for KMS plugins, one
// for each start of the program, with a KMS that is linked into it.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"
)

// Main answers one call and gives the exit status. scheme is that of the KMS's key
// URIs; the caller leaves it out.
func Main(scheme string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	call, err := handler.GetPluginArgs(args)
	if err == nil && (call.InitOptions == nil || call.MethodArgs == nil) {
		err = errors.New("the call lacks its options")
	}
	if err != nil {
		fmt.Fprintf(stderr, "%v: this is a plugin that the signer and cosign start for keys %s://\n", err, scheme)
		return 2
	}
	ctx := context.Background()
	if call.InitOptions.CtxDeadline != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, *call.InitOptions.CtxDeadline)
		defer cancel()
	}
	key, err := kms.Get(ctx, scheme+"://"+call.InitOptions.KeyResourceID, call.InitOptions.HashFunc)
	if err != nil {
		err = handler.WriteErrorResponse(stdout, err)
	} else {
		_, err = handler.Dispatch(stdout, stdin, call, key)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}
