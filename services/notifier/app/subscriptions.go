package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/service"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/egress"
	"github.com/seaworthy-dev/seaworthy/services/notifier/internal/sink/webhook"
)

// SubscriptionConfig says who is told what.
type SubscriptionConfig struct {
	// Name is unique: lower-case letters, digits, `-`.
	Name string `yaml:"name"`
	// URL is where notifications are posted: https, or http.
	URL string `yaml:"url"`
	// Secret is a shared secret `whsec_…`; it signs `v1`.
	Secret config.Secret `yaml:"secret"`
	// Ed25519Key is a private key `whsk_…`; it signs `v1a`. At least one of the two.
	Ed25519Key config.Secret `yaml:"ed25519_key"`
	// Repositories are globs of `registry/repository`; empty means all.
	Repositories []string `yaml:"repositories"`
	// States are `PASS`, `FAIL`, `UNKNOWN`; empty means all.
	States []string `yaml:"states"`
	// AllowPrivateNetworks lets the URL lead to loopback or a private network.
	AllowPrivateNetworks bool `yaml:"allow_private_networks"`
}

var errUnsigned = errors.New("neither secret nor ed25519_key is given: notifications are never sent unsigned")

// subscriptions makes the subscriptions of the configuration ready.
func subscriptions(ctx context.Context, cfg Config, clients *egress.Clients, d service.Deps) ([]core.Subscription, error) {
	out := make([]core.Subscription, 0, len(cfg.Subscriptions))
	for _, s := range cfg.Subscriptions {
		signers, keyErr := s.signers()
		if keyErr != nil {
			return nil, fmt.Errorf("subscription %s: %s: %w", s.Name, keyErr.field, keyErr.cause)
		}
		for _, signer := range signers {
			// What the operator hands to the subscriber to verify with.
			if key := webhook.PublicKey(signer); key != "" {
				d.Telemetry.Logger.InfoContext(ctx, "notifications signed with ed25519", "subscription", s.Name, "public_key", key)
			}
		}
		sink, err := webhook.New(s.URL, signers, clients.Client(s.AllowPrivateNetworks), d.Now)
		if err != nil {
			return nil, fmt.Errorf("subscription %s: %w", s.Name, err)
		}
		hash := sha256.Sum256([]byte(s.URL))
		out = append(out, core.Subscription{
			Name: s.Name, Address: s.origin(), AddressHash: hex.EncodeToString(hash[:]),
			Filter: core.Filter{Repositories: s.Repositories, States: s.States}, Sink: sink,
		})
	}
	return out, nil
}

var subscriptionName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func (s SubscriptionConfig) validate(p *config.Problems) {
	if !subscriptionName.MatchString(s.Name) {
		p.Errorf("name", "must be 1 to 63 lower-case letters, digits or -")
	}
	s.validateURL(p)
	if _, err := s.signers(); err != nil {
		p.Errorf(err.field, "%v", err.cause)
	}
	for i, glob := range s.Repositories {
		if err := core.CheckGlob(glob); err != nil {
			p.Errorf("repositories["+strconv.Itoa(i)+"]", "%v", err)
		}
	}
	for i, state := range s.States {
		if !slices.Contains(core.States(), state) {
			p.Errorf("states["+strconv.Itoa(i)+"]", "%q is not one of %s", state, strings.Join(core.States(), ", "))
		}
	}
}

func (s SubscriptionConfig) validateURL(p *config.Problems) {
	u, err := url.Parse(s.URL)
	if err != nil {
		p.Errorf("url", "cannot be parsed") // the error would show the URL, which may hold a token
		return
	}
	if (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" {
		p.Errorf("url", "must be an http or https URL with a host")
		return
	}
	if u.User != nil || u.Fragment != "" {
		p.Errorf("url", "must have neither user information nor a fragment")
	}
	addr, err := netip.ParseAddr(u.Hostname())
	literal := err == nil
	if literal {
		if err := egress.CheckAddress(addr, s.AllowPrivateNetworks); err != nil {
			p.Errorf("url", "%v; allow_private_networks lets it be on loopback or in a private network", err)
		}
	}
	if u.Scheme == "http" && (!literal || !addr.IsLoopback()) {
		p.Warnf("url", "is http: notifications are signed but can be read on the way")
	}
}

// keyError says which key of a subscription cannot be used.
type keyError struct {
	field string
	cause error
}

// signers returns what signs the notifications of the subscription.
func (s SubscriptionConfig) signers() ([]webhook.Signer, *keyError) {
	var out []webhook.Signer
	for _, key := range []struct {
		field string
		value config.Secret
		parse func(string) (webhook.Signer, error)
	}{
		{"secret", s.Secret, webhook.ParseSecret},
		{"ed25519_key", s.Ed25519Key, webhook.ParsePrivateKey},
	} {
		if key.value.IsZero() {
			continue
		}
		text, err := key.value.Resolve()
		if err != nil {
			return nil, &keyError{key.field, err}
		}
		signer, err := key.parse(text)
		if err != nil {
			return nil, &keyError{key.field, err}
		}
		out = append(out, signer)
	}
	if len(out) == 0 {
		return nil, &keyError{"secret", errUnsigned}
	}
	return out, nil
}

// origin is the URL without path and query, which are often secret.
func (s SubscriptionConfig) origin() string {
	u, err := url.Parse(s.URL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
