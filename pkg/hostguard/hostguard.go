// Package hostguard keeps web pages away from plain HTTP listeners. A page whose name
// resolves to this machine for a moment (DNS rebinding) reaches them with its own name in
// Host, and any page can send requests with its own name in Origin.
package hostguard

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Handler passes on requests whose Host is an IP address, localhost, a name without a dot,
// or one of the names, and whose Origin, if there is one, is the same. None of these can be rebound: an
// address is not resolved, and nobody owns a name without a dot in the public DNS, but
// containers and services are often called by one. It does not matter where the listener
// is: a page in the browser of somebody inside reaches it there, too.
func Handler(next http.Handler, names ...string) http.Handler {
	known := newNames(names)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch origin := r.Header.Values("Origin"); {
		case !known.has(r.Host):
			http.Error(w, "the name in Host is not configured for this listener", http.StatusMisdirectedRequest)
		case len(origin) > 1 || len(origin) == 1 && !ownOrigin(origin[0], r.Host):
			http.Error(w, "requests of other sites' pages are refused", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// names are what a listener is called by, in lower case.
type names map[string]bool

func newNames(configured []string) names {
	n := names{}
	for _, name := range configured {
		n[strings.ToLower(strings.TrimSuffix(name, "."))] = true
	}
	return n
}

func (n names) has(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host != "" && !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost") || n[host]
}

// ownOrigin tells whether a page is one of the listener's own, or of this machine like it.
// A foreign page can have an address for its name, too.
func ownOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && (strings.EqualFold(u.Host, host) || isLocal(u.Hostname()) && isLocal((&url.URL{Host: host}).Hostname()))
}

func isLocal(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}
