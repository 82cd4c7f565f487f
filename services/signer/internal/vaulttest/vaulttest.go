// Package vaulttest gives tests a real Vault on loopback with its transit engine, and
// the plugin program with which the signer reaches it.
package vaulttest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// programs names the directory of both programs.
const programs = "SEAWORTHY_VAULT"

// startup is how long the server may take on a busy machine.
const startup = time.Minute

// Vault is a server.
type Vault struct{ address, token string }

// Start starts Vault, mounts its transit engine, and gives this process, and thus the
// plugins that it starts, the address and a token that may do everything. It skips the
// test if SEAWORTHY_VAULT does not say where the programs are.
func Start(t *testing.T) *Vault {
	t.Helper()
	dir := os.Getenv(programs)
	if dir == "" {
		t.Skip(programs + " is not set; `make test-interop-kms` builds Vault and sets it")
	}
	cmd := exec.Command(filepath.Join(dir, "vault")) //nolint:gosec,noctx // ended below
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(startup, func() { _ = cmd.Process.Kill() })
	v := &Vault{}
	lines := bufio.NewScanner(stdout)
	for (v.address == "" || v.token == "") && lines.Scan() {
		switch name, value, _ := strings.Cut(lines.Text(), "="); name {
		case "VAULT_ADDR":
			v.address = value
		case "VAULT_TOKEN":
			v.token = value
		}
	}
	late.Stop()
	t.Cleanup(func() {
		_ = stdin.Close() // it serves until then
		_ = cmd.Wait()
		http.DefaultClient.CloseIdleConnections()
		if t.Failed() {
			t.Logf("vault said:\n%s", said.Bytes())
		}
	})
	if v.address == "" || v.token == "" {
		t.Fatal("vault did not start")
	}
	v.post(t, "sys/mounts/transit", `{"type":"transit"}`)
	t.Setenv("VAULT_ADDR", v.address)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	v.Allow(t)
	return v
}

// NewKey makes a key of one of the engine's types, such as ecdsa-p256, and returns its URI.
func (v *Vault) NewKey(t *testing.T, name, kind string) string {
	t.Helper()
	v.post(t, "transit/keys/"+name, fmt.Sprintf(`{"type":%q}`, kind))
	return "hashivault://" + name
}

// Rotate puts a new key behind the URI; the engine keeps the old one.
func (v *Vault) Rotate(t *testing.T, name string) {
	t.Helper()
	v.post(t, "transit/keys/"+name+"/rotate", `{}`)
}

// Allow gives plugins a token that may do everything.
func (v *Vault) Allow(t *testing.T) {
	t.Helper()
	t.Setenv("VAULT_TOKEN", v.token)
}

// Deny gives plugins a token of nobody.
func (v *Vault) Deny(t *testing.T) {
	t.Helper()
	t.Setenv("VAULT_TOKEN", "hvs.nobody")
}

func (v *Vault) post(t *testing.T, path, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startup)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.address+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", v.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		raw, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %s: %s", path, resp.Status, raw)
	}
}
