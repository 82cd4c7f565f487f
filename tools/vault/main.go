// Command vault serves Vault's own core and transit engine over its HTTP API on
// loopback: in memory, unsealed, without any other engine. It is the part of
// HashiCorp's program that a signer needs to be tested with, and builds in a
// fraction of its time. The version is one below the Mozilla Public License that
// builds with a published version of its own SDK: the module replaces it by a
// directory, which does not count here.
//
// It prints its address and its root token as the environment of a client, one
// variable a line, and serves until its standard input ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	log := hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr})
	storage, err := inmem.NewInmem(nil, log)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: storage, Logger: log, DisableMlock: true,
		LogicalBackends: map[string]logical.Factory{engine: transit.Factory}, BuiltinRegistry: engines{},
	})
	if err != nil {
		return err
	}
	defer func() { _ = core.Shutdown() }() // everything was in memory
	token, err := unseal(core)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{
			Core: core, ListenerConfig: &configutil.Listener{Address: listener.Addr().String()},
		}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	fmt.Printf("VAULT_ADDR=http://%s\nVAULT_TOKEN=%s\n", listener.Addr(), token)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// engine is the name of the only one there is.
const engine = "transit"

// engines tells the core which engines it may be asked to mount.
type engines struct{}

// Contains implements vault.BuiltinRegistry.
func (engines) Contains(name string, kind consts.PluginType) bool {
	return name == engine && kind == consts.PluginTypeSecrets
}

// Get implements vault.BuiltinRegistry.
func (e engines) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	if !e.Contains(name, kind) {
		return nil, false
	}
	return func() (any, error) { return transit.Factory, nil }, true
}

// Keys implements vault.BuiltinRegistry.
func (engines) Keys(kind consts.PluginType) []string {
	if kind != consts.PluginTypeSecrets {
		return nil
	}
	return []string{engine}
}

// DeprecationStatus implements vault.BuiltinRegistry.
func (e engines) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, e.Contains(name, kind)
}

// unseal gives the core its first secrets and opens it with them.
func unseal(core *vault.Core) (token string, err error) {
	one := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	made, err := core.Initialize(context.Background(), &vault.InitParams{BarrierConfig: one, RecoveryConfig: one})
	if err != nil {
		return "", err
	}
	if _, err := core.Unseal(made.SecretShares[0]); err != nil {
		return "", err
	}
	for range 300 {
		if standby, _ := core.Standby(); !standby && !core.Sealed() {
			return made.RootToken, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return "", errors.New("the core stays sealed or in standby")
}
