package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"github.com/seaworthy-dev/seaworthy/pkg/buildinfo"
	"github.com/seaworthy-dev/seaworthy/pkg/config"
	"github.com/seaworthy-dev/seaworthy/pkg/lifecycle"
	"github.com/seaworthy-dev/seaworthy/pkg/obs"
)

// Exit codes of a service's process.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Main is the main function of a service. It ends the process with 0 after an
// orderly stop, 1 after a failure, 2 for flags or a configuration that cannot
// be used.
func Main[C any](d Definition[C]) {
	ctx, cancel := lifecycle.WithSignals(context.Background())
	code := execute(ctx, d, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	cancel()
	os.Exit(code)
}

func execute[C any](ctx context.Context, d Definition[C], args, environ []string, stdout, stderr io.Writer) int {
	flags := pflag.NewFlagSet(d.Name, pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {}
	file := flags.StringP("config", "c", "", "YAML `file` with the configuration")
	set := flags.StringArray("set", nil, "override one key, `key.path=value`; may be repeated")
	check := flags.Bool("check", false, "validate the configuration and exit: 0 valid, 2 not")
	version := flags.Bool("version", false, "print the version and exit")
	help := flags.BoolP("help", "h", false, "print this text and exit")

	err := flags.Parse(args)
	switch {
	case err != nil:
	case *help:
		usage(stdout, d, flags)
		return exitOK
	case *version:
		fmt.Fprintln(stdout, buildinfo.String("seaworthy-"+d.Name))
		return exitOK
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\nTry --help.\n", d.Name, err)
		return exitUsage
	}
	cfg, err := Load(d, *file, environ, *set)
	if err != nil {
		fmt.Fprintf(stderr, "%s: configuration cannot be read:\n%v\n", d.Name, obs.RedactError(err))
		return exitUsage
	}
	if *check {
		return report(Check(d, &cfg), stdout, stderr)
	}
	switch err := Run(ctx, d, cfg, RunOptions{Logs: stderr}); {
	case errors.Is(err, ErrConfig):
		fmt.Fprintf(stderr, "%s: %v\n", d.Name, obs.RedactError(err))
		return exitUsage
	case err != nil:
		fmt.Fprintln(stderr, obs.RedactError(err))
		return exitFailed
	}
	return exitOK
}

func report(p *config.Problems, stdout, stderr io.Writer) int {
	for _, w := range p.Warnings() {
		fmt.Fprintf(stderr, "warning: %s\n", obs.Redact(w))
	}
	if err := p.Err(); err != nil {
		fmt.Fprintf(stderr, "%v:\n%v\n", ErrConfig, obs.RedactError(err))
		return exitUsage
	}
	fmt.Fprintln(stdout, "configuration is valid")
	return exitOK
}

func usage[C any](w io.Writer, d Definition[C], flags *pflag.FlagSet) {
	prefix := EnvPrefix(d.Name)
	fmt.Fprintf(w, "seaworthy-%s: %s\n\nUsage:\n  %s [--config FILE] [--set key.path=value]…\n\nFlags:\n%s\n", d.Name, summary(d), d.Name, flags.FlagUsages())
	fmt.Fprintf(w, "Every key can be set in the YAML file, in the environment (%s), or by\n--set; the later wins. Names that no key has are errors.\n\nKeys and defaults:\n",
		config.EnvName(prefix, "server.listen")+" is server.listen")
	cfg := d.Default()
	for _, k := range config.Describe(&cfg) {
		if k.Default == "" {
			fmt.Fprintf(w, "  %s\n", k.Path)
		} else {
			fmt.Fprintf(w, "  %-32s %s\n", k.Path, k.Default)
		}
	}
}

func summary[C any](d Definition[C]) string {
	if d.Summary != "" {
		return d.Summary
	}
	return "the " + d.Name + " of a Seaworthy fleet"
}
