package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seaworthy-dev/seaworthy/pkg/sqldb"
	"github.com/seaworthy-dev/seaworthy/services/verifier/internal/core"
)

// ErrEtag says that it was changed since the caller read it.
var ErrEtag = errors.New("it was changed meanwhile")

// Policy is one version of a stored policy.
type Policy struct {
	Name string
	// Version counts from 1; the store sets it.
	Version  int64
	FromFile bool
	// Deleted marks the version that took the policy out of force; it has no document.
	Deleted   bool
	RequestID string
	// Actor made the version.
	Actor      string
	CreateTime time.Time
	// Digest of the document.
	Digest   string
	Document string
	// Repositories are the globs of the document.
	Repositories []string
}

// Etag changes with every version.
func (p *Policy) Etag() string {
	hex := strings.TrimPrefix(p.Digest, "sha256:")
	return strconv.FormatInt(p.Version, 10) + "-" + hex[:min(16, len(hex))]
}

// String names the version, as the causes of verdicts do.
func (p *Policy) String() string {
	s := fmt.Sprintf("policy %s v%d", p.Name, p.Version)
	if p.Deleted {
		s += deleted
	}
	return s
}

// CreatePolicy implements Store.
func (s *SQL) CreatePolicy(ctx context.Context, p Policy, limit int, audit Audit) (Policy, error) {
	out := p
	err := s.commitRules(ctx, func(tx *sql.Tx) (ruleChange, error) {
		there, err := policyInForce(ctx, tx, p.Name)
		switch {
		case err == nil && p.RequestID != "" && there.RequestID == p.RequestID:
			out = there
			return ruleChange{}, nil
		case err == nil:
			return ruleChange{}, ErrExists
		case !errors.Is(err, ErrNotFound):
			return ruleChange{}, err
		}
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM policies`).Scan(&n); err != nil {
			return ruleChange{}, err
		}
		if n >= limit {
			return ruleChange{}, ErrTooMany
		}
		out = p
		if err := addPolicyVersion(ctx, tx, &out); err != nil {
			return ruleChange{}, err
		}
		return policyChange(p.Repositories, []Audit{audit}, out), nil
	})
	if err != nil {
		return Policy{}, fmt.Errorf("create policy: %w", err)
	}
	return out, nil
}

// UpdatePolicy implements Store.
func (s *SQL) UpdatePolicy(ctx context.Context, p Policy, etag string, audit Audit) (Policy, error) {
	out := p
	err := s.commitRules(ctx, func(tx *sql.Tx) (ruleChange, error) {
		there, err := policyInForce(ctx, tx, p.Name)
		switch {
		case err != nil:
			return ruleChange{}, err
		case there.FromFile:
			return ruleChange{}, ErrFromFile
		case p.RequestID != "" && there.RequestID == p.RequestID:
			out = there
			return ruleChange{}, nil
		case there.Etag() != etag:
			return ruleChange{}, ErrEtag
		case there.Digest == p.Digest:
			out = there
			return ruleChange{}, nil
		}
		out = p
		if err := addPolicyVersion(ctx, tx, &out); err != nil {
			return ruleChange{}, err
		}
		return policyChange(union(there.Repositories, p.Repositories), []Audit{audit}, out), nil
	})
	if err != nil {
		return Policy{}, fmt.Errorf("update policy: %w", err)
	}
	return out, nil
}

// DeletePolicy implements Store.
func (s *SQL) DeletePolicy(ctx context.Context, p Policy, etag string, audit Audit) error {
	err := s.commitRules(ctx, func(tx *sql.Tx) (ruleChange, error) {
		there, err := policyInForce(ctx, tx, p.Name)
		switch {
		case err != nil:
			return ruleChange{}, err
		case there.FromFile:
			return ruleChange{}, ErrFromFile
		case etag != "" && there.Etag() != etag:
			return ruleChange{}, ErrEtag
		}
		gone, err := endPolicy(ctx, tx, p)
		if err != nil {
			return ruleChange{}, err
		}
		return policyChange(there.Repositories, []Audit{audit}, gone), nil
	})
	if err != nil {
		return fmt.Errorf("delete policy: %w", err)
	}
	return nil
}

// SyncPolicies implements Store.
func (s *SQL) SyncPolicies(ctx context.Context, fromFiles []Policy, by Audit) ([]Policy, error) {
	var changed []Policy
	err := s.commitRules(ctx, func(tx *sql.Tx) (ruleChange, error) {
		changed = nil
		there, err := listPolicies(ctx, tx, selectPolicies+inForce+` ORDER BY v.name`)
		if err != nil {
			return ruleChange{}, err
		}
		var globs []string
		for _, old := range there {
			if !old.FromFile || slices.ContainsFunc(fromFiles, func(p Policy) bool { return p.Name == old.Name }) {
				continue
			}
			gone, err := endPolicy(ctx, tx, Policy{Name: old.Name, FromFile: true, Actor: by.Actor, CreateTime: by.Time})
			if err != nil {
				return ruleChange{}, err
			}
			changed, globs = append(changed, gone), union(globs, old.Repositories)
		}
		for _, p := range fromFiles {
			if i := slices.IndexFunc(there, func(old Policy) bool { return old.Name == p.Name }); i >= 0 {
				if !there[i].FromFile {
					return ruleChange{}, fmt.Errorf("%w: policy %s was created through the API; delete it there or rename the one in the file", ErrExists, p.Name)
				}
				if there[i].Digest == p.Digest {
					continue
				}
				globs = union(globs, there[i].Repositories)
			}
			p.FromFile, p.Actor, p.CreateTime = true, by.Actor, by.Time
			if err := addPolicyVersion(ctx, tx, &p); err != nil {
				return ruleChange{}, err
			}
			changed, globs = append(changed, p), union(globs, p.Repositories)
		}
		if len(changed) == 0 {
			return ruleChange{}, nil
		}
		audits := make([]Audit, 0, len(changed))
		for i := range changed {
			a := by
			a.ID, a.Resource = fmt.Sprintf("%s/%s/%d", by.ID, changed[i].Name, changed[i].Version), changed[i].String()
			audits = append(audits, a)
		}
		return policyChange(globs, audits, changed...), nil
	})
	if err != nil {
		return nil, fmt.Errorf("take over policies of files: %w", err)
	}
	return changed, nil
}

// policyChange is the change of the rules that new versions of policies are.
func policyChange(globs []string, audits []Audit, changed ...Policy) ruleChange {
	all := make([]string, 0, len(changed))
	for i := range changed {
		all = append(all, changed[i].String())
	}
	if len(audits) == 1 && len(changed) == 1 {
		audits[0].Resource = changed[0].String()
	}
	return ruleChange{
		changed: true, cause: Cause{Kind: core.CausePolicy, Detail: strings.Join(all, ", ")}, repositories: globs, audits: audits,
	}
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// addPolicyVersion puts the next version of a policy in force.
func addPolicyVersion(ctx context.Context, tx *sql.Tx, p *Policy) error {
	if err := insertPolicyVersion(ctx, tx, p); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO policies (name, version) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET version = excluded.version`, p.Name, p.Version)
	return err
}

// endPolicy takes a policy out of force and notes that as a version.
func endPolicy(ctx context.Context, tx *sql.Tx, p Policy) (Policy, error) {
	p.Deleted, p.Document, p.Digest, p.Repositories = true, "", "", nil
	if err := insertPolicyVersion(ctx, tx, &p); err != nil {
		return Policy{}, err
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM policies WHERE name = $1`, p.Name)
	return p, err
}

func insertPolicyVersion(ctx context.Context, tx *sql.Tx, p *Policy) error {
	globs, err := json.Marshal(p.Repositories)
	if err != nil {
		return err
	}
	err = tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) + 1 FROM policy_versions WHERE name = $1`, p.Name).Scan(&p.Version)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO policy_versions (name, version, from_file, deleted, request_id, actor, create_time, digest, document, repositories)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		p.Name, p.Version, number(p.FromFile), number(p.Deleted), p.RequestID, p.Actor, sqldb.Time(p.CreateTime), p.Digest, p.Document, string(globs))
	return err
}
