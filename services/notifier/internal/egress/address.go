// Package egress reaches subscribers: it dials only addresses that a subscriber may have.
package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// ErrAddressNotAllowed is the error of a connection to an address that no subscriber may have.
var ErrAddressNotAllowed = errors.New("address not allowed")

// Networks that are reachable only for subscriptions that allow private networks.
var privateNetworks = prefixes(
	"127.0.0.0/8", "::1/128", // loopback
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", // RFC 1918
	"100.64.0.0/10", // RFC 6598, carrier-grade NAT
	"fc00::/7",      // RFC 4193, unique local
)

// Addresses that no subscription may reach: they belong to no subscriber.
// 169.254.0.0/16 and fe80::/10 hold the metadata services of most clouds; the single
// addresses are those of the clouds that put theirs elsewhere.
var neverNetworks = prefixes(
	"169.254.0.0/16", "fe80::/10", // link-local
	"100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::254/128", "fd20:ce::254/128", // metadata
	"0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", // IANA special purpose
)

// Of IPv6 only global unicast is reachable, without the ranges that stand for an
// IPv4 address, which would lead around the lists above, and documentation.
var (
	globalUnicast6 = netip.MustParsePrefix("2000::/3")
	special6       = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func containedIn(list []netip.Prefix, addr netip.Addr) bool {
	for _, p := range list {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// CheckAddress returns ErrAddressNotAllowed unless addr is global, or private and
// allowPrivate is true.
func CheckAddress(addr netip.Addr, allowPrivate bool) error {
	addr = addr.WithZone("").Unmap()
	switch {
	case !addr.IsValid(), containedIn(neverNetworks, addr):
	case containedIn(privateNetworks, addr):
		if allowPrivate {
			return nil
		}
	case addr.Is4():
		return nil
	case globalUnicast6.Contains(addr) && !containedIn(special6, addr):
		return nil
	}
	return fmt.Errorf("%w: %v", ErrAddressNotAllowed, addr)
}

// control returns a net.Dialer.Control that checks the address actually dialled, so
// that a name that resolves differently the second time gains nothing.
func control(allowPrivate bool) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		target, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %q", ErrAddressNotAllowed, address)
		}
		return CheckAddress(target.Addr(), allowPrivate)
	}
}
