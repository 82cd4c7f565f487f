package egress

import (
	"errors"
	"net/netip"
	"testing"
)

func TestCheckAddress(t *testing.T) {
	const never, private, public = 0, 1, 2
	for addr, want := range map[string]int{
		"8.8.8.8": public, "172.15.255.255": public, "172.32.0.1": public, "100.63.255.255": public, "100.128.0.0": public,
		"2606:4700::1111": public, "2a00:1450:4001::1": public,

		"127.0.0.1": private, "127.255.255.255": private, "::1": private, "10.0.0.1": private, "172.16.0.1": private,
		"172.31.255.255": private, "192.168.1.1": private, "100.64.0.1": private, "100.127.255.255": private,
		"fc00::1": private, "fdff::1": private, "::ffff:127.0.0.1": private, "::ffff:10.1.2.3": private,

		"0.0.0.0": never, "::": never, "0.1.2.3": never, "169.254.169.254": never, "169.254.0.1": never,
		"::ffff:169.254.169.254": never, "fe80::1": never, "fd00:ec2::254": never, "100.100.100.200": never,
		"168.63.129.16": never, "192.0.0.192": never, "192.0.2.1": never, "198.18.0.1": never, "198.51.100.1": never,
		"203.0.113.1": never, "192.88.99.1": never, "224.0.0.1": never, "239.1.1.1": never, "240.0.0.1": never, "255.255.255.255": never,
		"ff02::1": never, "2001:db8::1": never, "2001::1": never, "2002:7f00:1::1": never, "64:ff9b::7f00:1": never,
		"::127.0.0.1": never, "fec0::1": never, "fe80::1%eth0": never, "3fff::1": never,
	} {
		a := netip.MustParseAddr(addr)
		if got := CheckAddress(a, false) == nil; got != (want == public) {
			t.Errorf("%s, private networks not allowed: reachable %v", addr, got)
		}
		if got := CheckAddress(a, true) == nil; got != (want != never) {
			t.Errorf("%s, private networks allowed: reachable %v", addr, got)
		}
	}
	if err := CheckAddress(netip.Addr{}, true); !errors.Is(err, ErrAddressNotAllowed) {
		t.Errorf("no address: %v", err)
	}
}

func TestControl(t *testing.T) {
	for address, want := range map[string]bool{
		"8.8.8.8:443": true, "[2606:4700::1111]:443": true,
		"127.0.0.1:80": false, "[::1]:80": false, "[fe80::1%lo]:80": false, "localhost:80": false, "": false,
	} {
		if err := control(false)("tcp", address, nil); (err == nil) != want {
			t.Errorf("%q: %v", address, err)
		}
	}
}
