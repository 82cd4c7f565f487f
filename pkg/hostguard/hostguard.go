// Package hostguard keeps web pages away from plain HTTP listeners. A page whose name
// resolves to this machine for a moment (DNS rebinding) reaches them with its own name in
// Host, and any page can send requests with its own name in Origin.
package hostguard

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Handler passes on requests whose Host, and Origin if there is one, is one of the names,
// an IP address, or localhost. An address cannot be rebound. A listener that other
// machines reach is called by names that are not known here, so that only one on
// loopback has its Host checked; Origin always is.
func Handler(next http.Handler, listener net.Addr, names ...string) http.Handler {
	checkHost := isLoopback(listener)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch origin := r.Header.Values("Origin"); {
		case checkHost && !known(r.Host, names):
			http.Error(w, "this listener is for its own addresses, not for the name in Host", http.StatusMisdirectedRequest)
		case len(origin) > 1 || len(origin) == 1 && !knownOrigin(origin[0], names):
			http.Error(w, "requests of other sites' pages are refused", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

func knownOrigin(origin string, names []string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && known(u.Host, names)
}

func known(hostport string, names []string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(names, host)
}
