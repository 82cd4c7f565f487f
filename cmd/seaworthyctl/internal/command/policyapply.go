package command

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/seaworthy-dev/seaworthy/cmd/internal/output"
	"github.com/seaworthy-dev/seaworthy/cmd/seaworthyctl/internal/linediff"
	verifierv1 "github.com/seaworthy-dev/seaworthy/gen/seaworthy/verifier/v1"
	"github.com/seaworthy-dev/seaworthy/pkg/apierr"
	"github.com/seaworthy-dev/seaworthy/pkg/regularfile"
	"github.com/seaworthy-dev/seaworthy/services/verifier/app/policykit"
)

const (
	// applyTimeout is for trying a policy on all images.
	applyTimeout = 10 * time.Minute
	// testPage is the number of images of one call.
	testPage = 200
	// maxFlips are listed for people.
	maxFlips = 50
)

// planned is a policy that is to be applied or taken away.
type planned struct {
	Name string `json:"name"`
	// Action is create, update, delete or none.
	Action string   `json:"action"`
	Diff   []string `json:"diff,omitempty"`
	// Effect is what would change.
	Effect  *effect `json:"effect,omitempty"`
	Version int64   `json:"version,omitempty"`
	// Rollout is how far the verifier has come, once it is applied.
	Rollout *rollout `json:"rollout,omitempty"`

	document, etag string
}

// effect is the sum of the pages of TestPolicy.
type effect struct {
	Evaluated int64         `json:"evaluated"`
	Changed   int64         `json:"changed"`
	Skipped   int64         `json:"skipped"`
	Unmatched int64         `json:"unmatched"`
	States    []stateCount  `json:"states"`
	Flips     []flippedFrom `json:"flips"`
}

type stateCount struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Count int64  `json:"count"`
}

type flippedFrom struct {
	Image    string   `json:"image"`
	Platform string   `json:"platform"`
	From     string   `json:"from"`
	To       string   `json:"to"`
	Reasons  []string `json:"reasons"`
}

func (s *session) policyApply() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply FILE…",
		Short: "Create or update policies, after showing what changes",
		Long: `Apply creates the policies of files, or updates those of their names. It first
shows what differs from the version in force and which verdicts change, found out by
judging all images again on recorded evidence; with --dry-run that is all. A
policy that somebody changed meanwhile is not overwritten.

Then it waits up to 30 seconds while the verifier judges the images, and tells how
many are judged by the new rules, how many could not be (they are UNKNOWN, and the
verifier tries again) and how many wait. "policy show" tells it later.`,
		Example: `  seaworthyctl policy apply team-a.yaml --dry-run
  seaworthyctl policy apply team-a.yaml team-b.yaml`,
		Args: someFiles,
		RunE: s.run(func(ctx context.Context, args []string) error { return s.runPolicyApply(ctx, args, dryRun) }),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing")
	return cmd
}

func (s *session) runPolicyApply(ctx context.Context, files []string, dryRun bool) error {
	client, err := s.policies()
	if err != nil {
		return err
	}
	ctx, cancel := s.limit(ctx, applyTimeout)
	defer cancel()
	plan, err := plan(ctx, client, files)
	if err != nil {
		return err
	}
	// All of them are tried before any is applied.
	for _, p := range plan {
		if p.Action == "none" {
			continue
		}
		if p.Effect, err = try(ctx, client, &verifierv1.TestPolicyRequest{Document: p.document}); err != nil {
			return fmt.Errorf("try policy %s: %w", p.Name, err)
		}
	}
	if !s.json() {
		for _, p := range plan {
			if err := s.printPlanned(p); err != nil {
				return err
			}
		}
	}
	if !dryRun {
		for _, p := range plan {
			if err := p.apply(ctx, client); err != nil {
				return fmt.Errorf("%s policy %s: %w", p.Action, p.Name, err)
			}
		}
		for _, p := range plan {
			if p.Rollout, err = waitRollout(ctx, client, p.Name); err != nil {
				return fmt.Errorf("policy %s is applied, but how far its images are judged is not known: %w", p.Name, err)
			}
		}
	}
	if s.json() {
		return output.JSON(s.env.Out, plan)
	}
	if dryRun {
		s.notef("nothing was changed: --dry-run")
		return nil
	}
	for _, p := range plan {
		if p.Action != "none" {
			s.notef("policy %s v%d is in force", p.Name, p.Version)
		}
		if err := s.printRollout(p.Rollout); err != nil {
			return err
		}
	}
	return nil
}

// plan compares files with what is in force.
func plan(ctx context.Context, client verifierv1.PolicyServiceClient, files []string) ([]*planned, error) {
	kit, err := policykit.New()
	if err != nil {
		return nil, err
	}
	var out []*planned
	for _, file := range files {
		data, err := regularfile.ReadFile(file)
		if err != nil {
			return nil, &usageError{err}
		}
		docs, err := kit.Check(file, data)
		if err != nil {
			return nil, &usageError{err}
		}
		for _, d := range docs {
			if slices.ContainsFunc(out, func(p *planned) bool { return p.Name == d.Name }) {
				return nil, usagef("policy %s is there twice", d.Name)
			}
			p := &planned{Name: d.Name, Action: "update", document: d.Text}
			there, err := client.GetPolicy(ctx, &verifierv1.GetPolicyRequest{Name: d.Name})
			switch {
			case apierr.HasReason(err, "POLICY_NOT_FOUND"):
				p.Action = "create"
			case err != nil:
				return nil, err
			case there.GetPolicy().GetDigest() == d.Digest:
				p.Action = "none"
			}
			now := there.GetPolicy()
			p.etag, p.Version, p.Diff = now.GetEtag(), now.GetVersion(), linediff.Lines(now.GetDocument(), d.Text)
			out = append(out, p)
		}
	}
	return out, nil
}

// apply does what is planned.
func (p *planned) apply(ctx context.Context, client verifierv1.PolicyServiceClient) error {
	switch p.Action {
	case "create":
		resp, err := client.CreatePolicy(ctx, &verifierv1.CreatePolicyRequest{Document: p.document, RequestId: rand.Text()})
		p.Version = resp.GetPolicy().GetVersion()
		return err
	case "update":
		resp, err := client.UpdatePolicy(ctx, &verifierv1.UpdatePolicyRequest{Document: p.document, Etag: p.etag, RequestId: rand.Text()})
		p.Version = resp.GetPolicy().GetVersion()
		return err
	case "delete":
		_, err := client.DeletePolicy(ctx, &verifierv1.DeletePolicyRequest{Name: p.Name, Etag: p.etag})
		return err
	default:
		return nil
	}
}

// try adds up what TestPolicy says of all images.
func try(ctx context.Context, client verifierv1.PolicyServiceClient, req *verifierv1.TestPolicyRequest) (*effect, error) {
	req.PageSize = testPage
	e := &effect{States: []stateCount{}, Flips: []flippedFrom{}}
	for {
		resp, err := client.TestPolicy(ctx, req)
		if err != nil {
			return nil, err
		}
		e.add(resp)
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return e, nil
		}
	}
}

func (e *effect) add(r *verifierv1.TestPolicyResponse) {
	e.Evaluated += r.GetEvaluatedCount()
	e.Changed += r.GetChangedCount()
	e.Skipped += r.GetSkippedCount()
	e.Unmatched += r.GetUnmatchedCount()
	for _, c := range r.GetStateChanges() {
		from, to := output.Enum(c.GetFrom(), "STATE_"), output.Enum(c.GetTo(), "STATE_")
		i := slices.IndexFunc(e.States, func(s stateCount) bool { return s.From == from && s.To == to })
		if i < 0 {
			i = len(e.States)
			e.States = append(e.States, stateCount{From: from, To: to})
		}
		e.States[i].Count += c.GetCount()
	}
	for _, f := range r.GetFlips() {
		flip := flippedFrom{
			Image: fullName(f.GetImage()), Platform: platformName(f.GetPlatform()),
			From: output.Enum(f.GetFrom(), "STATE_"), To: output.Enum(f.GetTo(), "STATE_"), Reasons: []string{},
		}
		for _, reason := range f.GetReasons() {
			flip.Reasons = append(flip.Reasons, reason.GetCode()+": "+reason.GetMessage())
		}
		e.Flips = append(e.Flips, flip)
	}
}

func (s *session) printPlanned(p *planned) error {
	title := map[string]string{"create": "is new", "update": "changes", "delete": "will be deleted", "none": "is in force as it is"}[p.Action]
	if err := s.printLines(append([]string{"policy " + p.Name + " " + title}, indented(p.Diff)...)); err != nil {
		return err
	}
	e := p.Effect
	if e == nil {
		return nil
	}
	lines := []string{fmt.Sprintf("images judged: %d; verdicts that would change: %d; images without recorded evidence: %d", e.Evaluated, e.Changed, e.Skipped)}
	for _, c := range e.States {
		lines = append(lines, fmt.Sprintf("  %s to %s: %d", c.From, c.To, c.Count))
	}
	if err := s.printLines(lines); err != nil || len(e.Flips) == 0 {
		return err
	}
	t := s.section("IMAGE", "PLATFORM", "FROM", "TO", "REASON")
	for _, f := range e.Flips[:min(len(e.Flips), maxFlips)] {
		reason := ""
		if len(f.Reasons) > 0 {
			reason = f.Reasons[0]
		}
		t.Row(f.Image, f.Platform, f.From, f.To, output.Cut(reason, maxMessage))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if more := len(e.Flips) - maxFlips; more > 0 {
		s.notef("and %d more; -o json lists all", more)
	}
	return nil
}

func indented(lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, l := range lines {
		out = append(out, "  "+l)
	}
	return out
}

func (s *session) policyDiff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff FILE…",
		Short: "Show what differs between files and the policies in force",
		Long: `Diff compares the policies of files with those in force. The exit code is 1 if
they differ.`,
		Example: "  seaworthyctl policy diff team-a.yaml",
		Args:    someFiles,
		RunE: s.run(func(ctx context.Context, args []string) error {
			client, err := s.policies()
			if err != nil {
				return err
			}
			ctx, cancel := s.limit(ctx, defaultTimeout)
			defer cancel()
			plan, err := plan(ctx, client, args)
			if err != nil {
				return err
			}
			if s.json() {
				err = output.JSON(s.env.Out, plan)
			}
			different := false
			for _, p := range plan {
				different = different || p.Action != "none"
				if err == nil && !s.json() {
					err = s.printPlanned(p)
				}
			}
			if err == nil && different {
				err = &answerError{exitFail}
			}
			return err
		}),
	}
}

func (s *session) policyDelete() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Take a policy out of force, after showing which verdicts change",
		Example: `  seaworthyctl policy delete team-a --dry-run
  seaworthyctl policy delete team-a`,
		Args: oneName,
		RunE: s.run(func(ctx context.Context, args []string) error {
			client, err := s.policies()
			if err != nil {
				return err
			}
			ctx, cancel := s.limit(ctx, applyTimeout)
			defer cancel()
			there, err := client.GetPolicy(ctx, &verifierv1.GetPolicyRequest{Name: args[0]})
			if err != nil {
				return err
			}
			p := &planned{Name: args[0], Action: "delete", etag: there.GetPolicy().GetEtag(), Version: there.GetPolicy().GetVersion()}
			if p.Effect, err = try(ctx, client, &verifierv1.TestPolicyRequest{DeleteName: p.Name}); err != nil {
				return err
			}
			if !s.json() {
				if err := s.printPlanned(p); err != nil {
					return err
				}
			}
			if !dryRun {
				if err := p.apply(ctx, client); err != nil {
					return err
				}
			}
			if !dryRun {
				if p.Rollout, err = waitRollout(ctx, client, p.Name); err != nil {
					return fmt.Errorf("policy %s is out of force, but how far its images are judged is not known: %w", p.Name, err)
				}
			}
			if s.json() {
				return output.JSON(s.env.Out, p)
			}
			if dryRun {
				s.notef("nothing was changed: --dry-run")
				return nil
			}
			s.notef("policy %s is out of force; v%s can be shown and applied again", p.Name, strconv.FormatInt(p.Version, 10))
			return s.printRollout(p.Rollout)
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing")
	return cmd
}
