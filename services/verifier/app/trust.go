package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/attest"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/store"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/trust"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/vex"
)

// IdentityConfig says whose certificates are believed: exactly one of issuer and
// issuer_regexp, and of subject and subject_regexp. Patterns match the whole text.
type IdentityConfig struct {
	// Issuer is the URL of the OpenID Connect issuer.
	Issuer       string `yaml:"issuer"`
	IssuerRegexp string `yaml:"issuer_regexp"`
	// Subject is the email address or URI in the certificate.
	Subject       string `yaml:"subject"`
	SubjectRegexp string `yaml:"subject_regexp"`
	// RequireLog demands an entry in a transparency log.
	RequireLog bool `yaml:"require_log"`
	// RequireTimestamp demands a timestamp by an authority.
	RequireTimestamp bool `yaml:"require_timestamp"`
	// RequireSCT demands a certificate of a certificate transparency log.
	RequireSCT bool `yaml:"require_sct"`
}

func (c IdentityConfig) identity() attest.TrustedIdentity {
	return attest.TrustedIdentity{
		Issuer: c.Issuer, IssuerRegexp: c.IssuerRegexp, Subject: c.Subject, SubjectRegexp: c.SubjectRegexp,
		RequireLog: c.RequireLog, RequireTimestamp: c.RequireTimestamp, RequireSCT: c.RequireSCT,
	}
}

// RootConfig is a trust root that may state what it names, and nothing else.
type RootConfig struct {
	// Name is for people and for errors.
	Name string `yaml:"name"`
	// Keys are PEM files of public keys.
	Keys []string `yaml:"keys"`
	// Identities are of certificates by the authorities of trust.sigstore_root.
	Identities []IdentityConfig `yaml:"identities"`
	// States are the predicate types, URIs in full.
	States []string `yaml:"states"`
}

// maxStates is the number of predicate types of one root.
const maxStates = 64

func (c *RootConfig) validate(p *config.Problems, names map[string]bool, sigstoreRoot string) {
	switch {
	case c.Name == "" || len(c.Name) > maxAuthor:
		p.Errorf("roots", "each needs a name of at most %d bytes", maxAuthor)
	case names[c.Name]:
		p.Errorf("roots", "the name %q is used twice", c.Name)
	}
	names[c.Name] = true
	if len(c.Keys) == 0 && len(c.Identities) == 0 {
		p.Errorf("roots", "%s needs keys or identities", c.Name)
	}
	switch {
	case len(c.States) == 0:
		p.Errorf("roots", "%s needs states, the predicate types that it may state, for example %s", c.Name, attest.PredicateSLSAProvenance)
	case len(c.States) > maxStates:
		p.Errorf("roots", "%s has %d predicate types in states, the limit is %d", c.Name, len(c.States), maxStates)
	}
	seen := map[string]bool{}
	for _, s := range c.States {
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Scheme == "" || strings.ContainsAny(s, "* \t\r\n"):
			p.Errorf("roots", "%s: %.200q in states is not a predicate type: it has to be the whole URI, there are no patterns", c.Name, s)
		case seen[s]:
			p.Errorf("roots", "%s: %s is in states twice", c.Name, s)
		}
		seen[s] = true
	}
	validateIdentities(p.In("roots"), c.Identities, sigstoreRoot)
}

// fixedRoots are the keys and identities of the configuration, each with what it may
// state.
func (c *TrustConfig) fixedRoots() (attest.TrustRoots, error) {
	keys, err := trust.ReadKeys(c.Keys)
	if err != nil {
		return attest.TrustRoots{}, err
	}
	out := attest.TrustRoots{Keys: keys, Identities: identities(c.Identities)}.Stating(attest.BuilderStates())
	for _, r := range c.Roots {
		keys, err := trust.ReadKeys(r.Keys)
		if err != nil {
			return attest.TrustRoots{}, fmt.Errorf("trust root %s: %w", r.Name, err)
		}
		one := attest.TrustRoots{Keys: keys, Identities: identities(r.Identities)}.Stating(r.States)
		out.Keys, out.Identities = append(out.Keys, one.Keys...), append(out.Identities, one.Identities...)
	}
	switch {
	case len(out.Keys) > attest.MaxTrustedKeys:
		return attest.TrustRoots{}, fmt.Errorf("%d trusted keys, the limit is %d", len(out.Keys), attest.MaxTrustedKeys)
	case len(out.Identities) > attest.MaxTrustedIdentities:
		return attest.TrustRoots{}, fmt.Errorf("%d trusted identities, the limit is %d", len(out.Identities), attest.MaxTrustedIdentities)
	}
	return out, nil
}

// VexConfig says whose VEX documents count, and which are read from files.
type VexConfig struct {
	// Authors are trusted; without any no document counts.
	Authors []VexAuthorConfig `yaml:"authors"`
	// Dir is a directory; its files whose names end in .sigstore.json are read, each
	// with the document beside it that it signs.
	Dir string `yaml:"dir"`
	// Files are single files of that kind.
	Files []string `yaml:"files"`
}

// VexAuthorConfig is an author of VEX documents: by keys or by certificates.
type VexAuthorConfig struct {
	// Name is shown with what the author says.
	Name string `yaml:"name"`
	// Keys are PEM files of public keys.
	Keys []string `yaml:"keys"`
	// Identities are of certificates by the authorities of trust.sigstore_root.
	Identities []IdentityConfig `yaml:"identities"`
}

func identities(all []IdentityConfig) []attest.TrustedIdentity {
	out := make([]attest.TrustedIdentity, 0, len(all))
	for _, c := range all {
		out = append(out, c.identity())
	}
	return out
}

// sigstoreRoot reads a trusted root, as it is and parsed; nil for no file.
func sigstoreRoot(file string) ([]byte, *attest.SigstoreRoot, error) {
	if file == "" {
		return nil, nil, nil
	}
	data, err := regularfile.ReadFile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("read trusted root: %w", err)
	}
	root, err := attest.ParseSigstoreRoot(data)
	if err != nil {
		return nil, nil, fmt.Errorf("trusted root %s: %w", file, err)
	}
	return data, root, nil
}

func (c *Config) vexAuthors() (vex.Authors, error) {
	_, root, err := sigstoreRoot(c.Trust.SigstoreRoot)
	if err != nil {
		return nil, err
	}
	var out vex.Authors
	for _, a := range c.Vex.Authors {
		keys, err := trust.ReadKeys(a.Keys)
		if err != nil {
			return nil, fmt.Errorf("VEX author %s: %w", a.Name, err)
		}
		out = append(out, vex.Author{Name: a.Name, Roots: trust.Named(attest.TrustRoots{
			Keys: keys, Identities: identities(a.Identities), Sigstore: root,
		}.Stating(attest.AuthorStates()))})
	}
	return out, nil
}

// maxAuthor is the length of an author's name, in bytes.
const maxAuthor = 200

func validateIdentities(p *config.Problems, all []IdentityConfig, root string) {
	if len(all) > attest.MaxTrustedIdentities {
		p.Errorf("identities", "%d identities, the limit is %d", len(all), attest.MaxTrustedIdentities)
	}
	for i, c := range all {
		if err := c.identity().Validate(); err != nil {
			p.Errorf("identities", "the one at place %d: %v", i+1, err)
		}
	}
	if len(all) > 0 && root == "" {
		p.Errorf("identities", "certificates need authorities: set trust.sigstore_root")
	}
}

func (c *Config) validateVex(p *config.Problems) {
	names := map[string]bool{}
	for i, a := range c.Vex.Authors {
		switch {
		case a.Name == "" || len(a.Name) > maxAuthor:
			p.Errorf("authors", "the author at place %d needs a name of at most %d bytes", i+1, maxAuthor)
		case names[a.Name]:
			p.Errorf("authors", "the name %q is used twice", a.Name)
		case len(a.Keys) == 0 && len(a.Identities) == 0:
			p.Errorf("authors", "%s needs keys or identities", a.Name)
		}
		names[a.Name] = true
		validateIdentities(p.In("authors"), a.Identities, c.Trust.SigstoreRoot)
	}
	authors, err := c.vexAuthors()
	if err != nil {
		p.Errorf("authors", "%v", err)
		return
	}
	if _, err := loadVex(c.Vex, authors, time.Now()); err != nil {
		p.Errorf("", "%v", err)
	}
}

// loadVex reads and verifies the documents of files.
func loadVex(c VexConfig, authors vex.Authors, now time.Time) ([]store.Vex, error) {
	files, err := vex.Load(c.Dir, c.Files)
	if err != nil {
		return nil, err
	}
	out := make([]store.Vex, 0, len(files))
	for _, f := range files {
		d, err := authors.Import(f.Document, f.Bundle, now)
		if err != nil {
			return nil, fmt.Errorf("VEX document %s: %w", f.Name, err)
		}
		out = append(out, store.Vex{Digest: d.Digest, FromFile: true, Document: f.Document, Bundle: f.Bundle, ImportTime: now})
	}
	return out, nil
}

// syncVex makes the stored documents of files those that are in the files now, and
// has images judged again if other authors are trusted than before.
func syncVex(ctx context.Context, kept store.Store, cfg Config, authors vex.Authors, by store.Audit) error {
	documents, err := loadVex(cfg.Vex, authors, by.Time)
	if err != nil {
		return err
	}
	var fingerprint []byte
	if len(cfg.Vex.Authors) > 0 {
		trusted := map[string]string{}
		for _, a := range authors {
			trusted[a.Name] = a.Roots.Fingerprint()
		}
		if fingerprint, err = json.Marshal(trusted); err != nil {
			return fmt.Errorf("encode VEX authors: %w", err)
		}
	}
	return kept.SyncVex(ctx, documents, fingerprint, store.Cause{Kind: core.CauseVex, Detail: "the files of VEX documents or their trusted authors have changed"}, by)
}
