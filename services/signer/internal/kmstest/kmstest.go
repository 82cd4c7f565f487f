// Package kmstest gives tests a KMS: a plugin program, as Sigstore's clients start
// one for each call, with Sigstore's fake KMS behind it.
package kmstest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"
	"github.com/sigstore/sigstore/pkg/signature/kms/fake"
)

// URI is that of the one key.
const URI = "testkms://signer"

// asPlugin makes the test's program the plugin: its value is the file of the key.
const asPlugin = "SEAWORTHY_TEST_KMS"

// Main is to be called first in TestMain: when the program was started as the
// plugin it does the plugin's work and does not return.
func Main() {
	if file := os.Getenv(asPlugin); file != "" {
		os.Exit(plugin(file))
	}
}

// What the file may have in place of a key.
const (
	hang = "hang"
	deny = "deny"
)

func plugin(file string) int {
	der, err := os.ReadFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	switch string(der) {
	case hang:
		time.Sleep(time.Hour)
	case deny:
		_ = handler.WriteErrorResponse(os.Stdout, errors.New("access denied by the test"))
		return 1
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	call, err := handler.GetPluginArgs(os.Args)
	if err != nil || call.InitOptions.KeyResourceID != "signer" {
		fmt.Fprintln(os.Stderr, "bad call", err)
		return 1
	}
	sv, err := kms.Get(context.WithValue(context.Background(), fake.KmsCtxKey{}, key), "fakekms://signer", call.InitOptions.HashFunc)
	if err == nil {
		_, err = handler.Dispatch(os.Stdout, os.Stdin, call, sv)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Service is a KMS with a plugin in the PATH.
type Service struct{ file string }

// New makes a KMS with an ECDSA P-256 key. The test's program must call Main.
func New(t *testing.T) *Service {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &Service{file: filepath.Join(dir, "key")}
	script := fmt.Sprintf("#!/bin/sh\n%s='%s' exec '%s' \"$@\"\n", asPlugin, s.file, self)
	//nolint:gosec // it is a program
	if err := os.WriteFile(filepath.Join(dir, "sigstore-kms-testkms"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	s.Rotate(t, elliptic.P256())
	return s
}

// Rotate puts a new key behind the URI and returns its public half.
func (s *Service) Rotate(t *testing.T, curve elliptic.Curve) crypto.PublicKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s.hold(t, key)
}

// RotateRSA puts a new RSA key of so many bits behind the URI and returns its public half.
func (s *Service) RotateRSA(t *testing.T, bits int) crypto.PublicKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return s.hold(t, key)
}

func (s *Service) hold(t *testing.T, key crypto.Signer) crypto.PublicKey {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.answer(t, der)
	return key.Public()
}

// Hang has every call take an hour.
func (s *Service) Hang(t *testing.T) {
	t.Helper()
	s.answer(t, []byte(hang))
}

// Deny has every call refused.
func (s *Service) Deny(t *testing.T) {
	t.Helper()
	s.answer(t, []byte(deny))
}

func (s *Service) answer(t *testing.T, content []byte) {
	t.Helper()
	if err := os.WriteFile(s.file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
