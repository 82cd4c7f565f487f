// Scanbench measures the scan of a big image from a registry on loopback: CPU, wall
// clock and peak memory of `seaworthy scan`, of syft where it can be had, and of
// the bare work that no scanner can avoid, in turns. It prints a table in
// Markdown with the ratio of each to the bare work of the same run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// contender is a program that is measured.
type contender struct {
	name string
	env  []string
	args []string
}

// usage is what one run cost.
type usage struct {
	cpu, wall time.Duration
	rss       int64 // bytes
}

func main() {
	home, _ := os.UserHomeDir()
	seaworthy := flag.String("seaworthy", "bin/seaworthy", "the program to measure")
	image := flag.String("image", filepath.Join(home, ".cache/seaworthy-images/big"), "image in the OCI layout")
	peers := flag.String("peers", filepath.Join(home, ".cache/seaworthy-peers/bin"), "folder of syft; empty for none")
	advisories := flag.String("advisories", "", "snapshot to match with")
	rounds := flag.Int("rounds", 5, "how often each is run")
	bareOf := flag.String("bare", "", "do the bare work of the image at this address, and nothing else")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var err error
	if *bareOf != "" {
		err = bare(ctx, *bareOf)
	} else {
		err = run(ctx, *seaworthy, *image, *peers, *advisories, *rounds)
	}
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "scanbench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, seaworthy, image, peers, advisories string, rounds int) error {
	if advisories == "" {
		return errors.New("-advisories is needed: matching is part of the scan")
	}
	host, stop, err := serve(image)
	if err != nil {
		return err
	}
	defer stop()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	list := []contender{
		{name: "bare: pull, both digests, gunzip, tar walk", args: []string{self, "-bare", "http://" + host}},
		{name: "seaworthy scan, with matching", args: []string{seaworthy, "scan", "-q", "--advisories", advisories, "-o", "json", "--output-file", os.DevNull, host + "/big:1"}},
	}
	syft := filepath.Join(peers, "syft")
	if _, err := os.Stat(syft); peers != "" && !errors.Is(err, fs.ErrNotExist) {
		list = append(list, contender{
			name: "syft, no matching", env: []string{"SYFT_CHECK_FOR_APP_UPDATE=false", "SYFT_REGISTRY_INSECURE_USE_HTTP=true"},
			args: []string{syft, "-q", "registry:" + host + "/big:1", "-o", "spdx-json=" + os.DevNull},
		})
	}
	results := make([][]usage, len(list))
	for range rounds {
		for i, c := range list {
			u, err := measure(ctx, c)
			if err != nil {
				return err
			}
			results[i] = append(results[i], u)
		}
	}
	show(list, results)
	return nil
}

func measure(ctx context.Context, c contender) (usage, error) {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	var logs strings.Builder
	cmd.Stderr = &logs
	start := time.Now()
	err := cmd.Run()
	wall := time.Since(start)
	if err != nil {
		return usage{}, fmt.Errorf("%s: %w\n%s", strings.Join(c.args, " "), err, logs.String())
	}
	ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return usage{}, errors.New("this system does not tell what a process used")
	}
	// Linux counts in KiB.
	return usage{cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), wall: wall, rss: ru.Maxrss << 10}, nil
}

// show prints medians, and the medians of the ratios within each round: the load of
// the machine changes from round to round, and hits all of a round alike.
func show(list []contender, results [][]usage) {
	fmt.Fprintf(os.Stdout, "| | CPU s | wall s | peak MB | CPU x bare | wall x bare |\n|---|---:|---:|---:|---:|---:|\n")
	var peaks []string
	for i, c := range list {
		var cpu, wall, rss, cpuRatio, wallRatio []float64
		for round, u := range results[i] {
			b := results[0][round]
			cpu, wall, rss = append(cpu, u.cpu.Seconds()), append(wall, u.wall.Seconds()), append(rss, float64(u.rss)/1e6)
			cpuRatio, wallRatio = append(cpuRatio, u.cpu.Seconds()/b.cpu.Seconds()), append(wallRatio, u.wall.Seconds()/b.wall.Seconds())
		}
		peaks = append(peaks, fmt.Sprintf("%s: %.0f", c.name, rss))
		fmt.Fprintf(os.Stdout, "| %s | %.2f | %.2f | %.0f | %.2f | %.2f |\n", c.name, median(cpu), median(wall), slices.Max(rss), median(cpuRatio), median(wallRatio))
	}
	fmt.Fprintf(os.Stdout, "\nPeaks in MB, run by run: %s\n", strings.Join(peaks, "; "))
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
