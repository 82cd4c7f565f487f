package fleet

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// usual are the ports that the all-in-one takes when nothing else is said.
var usual = Ports{Gateway: 8080, Registry: 5000, NATS: 4222, Scanner: 9101, Signer: 9102, Verifier: 9103, Notifier: 9104}

// listen opens a port: the one that is configured, or the first that is free of the
// last start's, the usual one and any.
func listen(ctx context.Context, host string, configured, last, usual int) (net.Listener, error) {
	if configured != 0 {
		return listenOn(ctx, host, configured)
	}
	for _, port := range []int{last, usual} {
		if port == 0 {
			continue
		}
		if l, err := listenOn(ctx, host, port); err == nil {
			return l, nil
		}
	}
	return listenOn(ctx, host, 0)
}

func listenOn(ctx context.Context, host string, port int) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

func portOf(address string) int {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0
	}
	return n
}
