package app

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/identity"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keyless"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keyring"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/keystore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/kmskey"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/server"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/sigstore"
	"github.com/seaworthy-dev/seaworthy/services/signer/internal/store"
)

// signers are the identities of the configuration, and what readers need of them.
type signers struct {
	all   []identity.Identity
	keys  server.Keys
	trust server.Trust
	// services are those of the Sigstore; nil if no identity uses one.
	services *sigstore.Client
}

// identities are those of the configuration; without any there is one, of the key
// store.
func (c *Config) identities() []IdentityConfig {
	if len(c.Identities) == 0 {
		return []IdentityConfig{{Name: "default", Type: TypeKey}}
	}
	return c.Identities
}

func (c *Config) usesKeystore() bool {
	for _, i := range c.identities() {
		if i.Type == TypeKey {
			return true
		}
	}
	return false
}

// hasKeys says whether an identity signs with a key that can be revoked.
func (c *Config) hasKeys() bool {
	return slices.ContainsFunc(c.identities(), func(i IdentityConfig) bool { return i.Type != TypeKeyless })
}

func openSigners(ctx context.Context, cfg *Config, log store.Store, d service.Deps) (*signers, error) {
	// Also a signer without a key store keeps there what is revoked.
	durable := keyring.Durable(log, &keystore.Dir{Path: cfg.Keystore.Dir})
	s := &signers{keys: keyring.Past{Store: durable, Now: d.Now}}
	if _, err := durable.Sync(ctx); errors.Is(err, keystore.ErrNotWritten) {
		d.Telemetry.Logger.WarnContext(ctx, "revoked keys recorded in the database only: keystore.dir is not writable", "error", err)
	} else if err != nil {
		return nil, fmt.Errorf("revoked keys: %w", err)
	}
	var err error
	if s.trust.Root, err = attest.KeyedTrustedRoot(); err != nil {
		return nil, err
	}
	if !cfg.Sigstore.IsZero() {
		if s.services, err = sigstore.Open(cfg.Sigstore, d.Now); err != nil {
			return nil, err
		}
		s.trust.Root = s.services.RootJSON()
	}
	for _, i := range cfg.identities() {
		if err := s.checkServices(i); err != nil {
			return nil, fmt.Errorf("identity %s: %w", i.Name, err)
		}
		var one identity.Identity
		switch i.Type {
		case TypeKeyless:
			one = s.addKeyless(i, d)
		case TypeKMS:
			one = s.addKMS(ctx, cfg, i, durable, d)
		default:
			if one, err = s.addKeystore(ctx, cfg, i, log, d); err != nil {
				return nil, err
			}
		}
		s.all = append(s.all, one)
		s.warnOfLargeSBOMs(ctx, cfg, i, d)
	}
	return s, nil
}

// warnOfLargeSBOMs says if an identity takes less than max_sbom allows, as the services
// that it wants show: what is larger becomes a dead letter.
func (s *signers) warnOfLargeSBOMs(ctx context.Context, cfg *Config, i IdentityConfig, d service.Deps) {
	if cfg.MaxSBOM > attest.MaxStatement && i.has(WitnessLog) && s.services.Witness(true, false).TakesWhole() {
		d.Telemetry.Logger.WarnContext(ctx, "max_sbom is more than the identity takes: its transparency log, a Rekor v1, takes in whole statements",
			"identity", i.Name, "takes", config.Bytes(attest.MaxStatement))
	}
}

// checkServices finds out at the start what every signature would fail for.
func (s *signers) checkServices(i IdentityConfig) error {
	const missing = "sigstore.signing_config names no %s, which the identity wants"
	switch {
	case s.services == nil:
		return nil // then nothing is wanted, says Validate
	case i.Type == TypeKeyless && !s.services.HasFulcio():
		return fmt.Errorf(missing, "certificate authority")
	case i.has(WitnessLog) && !s.services.HasLog():
		return fmt.Errorf(missing, "transparency log")
	case i.has(WitnessTimestamp) && !s.services.HasTimestamps():
		return fmt.Errorf(missing, "timestamp authority")
	}
	return nil
}

func (s *signers) addKeyless(i IdentityConfig, d service.Deps) identity.Identity {
	one := keyless.New(keyless.Config{
		Name: i.Name, Issuer: i.Issuer, Subject: i.Subject, Token: i.Token,
		Log: i.has(WitnessLog), Timestamp: i.has(WitnessTimestamp),
	}, s.services, d.Now)
	trusted := one.Identity()
	trusted.ID = i.Name
	s.trust.Identities = append(s.trust.Identities, trusted)
	return one
}

func (s *signers) addKeystore(ctx context.Context, cfg *Config, i IdentityConfig, log store.Store, d service.Deps) (identity.Identity, error) {
	password, err := cfg.Keystore.Password.Resolve()
	if err != nil {
		return nil, fmt.Errorf("keystore.password: %w", err)
	}
	ring, err := keyring.Open(ctx, log, &keystore.Dir{
		Path: cfg.Keystore.Dir, Password: []byte(password), Generate: cfg.Keystore.Generate, Algorithm: cfg.Keystore.Algorithm,
	}, d.Now)
	if err != nil {
		return nil, err
	}
	key, err := ring.Current(ctx)
	if err != nil {
		return nil, err
	}
	d.Telemetry.Logger.InfoContext(ctx, "key store opened", "key_id", key.KeyID(), "generated", ring.Generated())
	s.keys = ring
	// No name: what the key store signed before there were identities stays its own.
	return identity.NewKeyed("", ring, s.witness(i)), nil
}

// addKMS asks for the public key, so that the trust bundle has it before anything
// is signed. A KMS that does not answer is no reason not to start.
func (s *signers) addKMS(ctx context.Context, cfg *Config, i IdentityConfig, durable *keyring.DurableKeys, d service.Deps) identity.Identity {
	keys := kmskey.New(i.Name, i.Key, durable, cfg.KMS, d.Now)
	if key, err := keys.Current(ctx); err != nil {
		d.Telemetry.Logger.WarnContext(ctx, "KMS key unusable; nothing is signed until it works",
			"identity", i.Name, "error", err)
	} else {
		d.Telemetry.Logger.InfoContext(ctx, "KMS key found", "identity", i.Name, "key_id", key.KeyID())
		if _, ed := key.Public().(ed25519.PublicKey); ed && cfg.MaxSBOM > attest.MaxStatement {
			d.Telemetry.Logger.WarnContext(ctx, "max_sbom is more than the identity takes: the KMS is sent all that an Ed25519 key signs",
				"identity", i.Name, "takes", config.Bytes(attest.MaxStatement))
		}
	}
	return identity.NewKeyed(i.Name, keys, s.witness(i))
}

func (s *signers) witness(i IdentityConfig) identity.Witness {
	if len(i.Witnesses) == 0 {
		return nil
	}
	return s.services.Witness(i.has(WitnessLog), i.has(WitnessTimestamp))
}

func (s *signers) close() {
	if s != nil && s.services != nil {
		s.services.Close()
	}
}
