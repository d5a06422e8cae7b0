package dial

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// ports are those of proxies given without one.
var ports = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

// parseProxy checks a proxy setting; nil when it is empty. Its errors quote
// nothing of the setting: a password may stand anywhere in what cannot be
// parsed.
func parseProxy(option, setting string) (*url.URL, error) {
	setting = strings.TrimSpace(setting)
	if setting == "" {
		return nil, nil
	}
	if !strings.Contains(setting, "://") {
		setting = "http://" + setting
	}
	proxy, err := url.Parse(setting)
	if err != nil {
		return nil, proxyError(option, "it is not a URL")
	}
	port, known := ports[proxy.Scheme]
	switch {
	case !known:
		return nil, proxyError(option, "its scheme is none of http, https, socks5, socks5h")
	case proxy.Hostname() == "":
		return nil, proxyError(option, "the host is missing")
	case strings.ContainsAny(proxy.Hostname(), " \t@/\\%"):
		return nil, proxyError(option, "the host is not a name or an address")
	case proxy.Path != "" && proxy.Path != "/", proxy.RawQuery != "", proxy.ForceQuery, proxy.Fragment != "":
		return nil, proxyError(option, "something follows host and port")
	}
	if p := proxy.Port(); p != "" {
		if !validPort(p) {
			return nil, proxyError(option, "the port is not between 1 and 65535")
		}
		port = p
	}
	if name := proxy.User.Username(); strings.Contains(name, ":") && strings.HasPrefix(proxy.Scheme, "http") {
		return nil, proxyError(option, "the user's name contains a colon, which basic authentication cannot carry")
	}
	return &url.URL{Scheme: proxy.Scheme, User: proxy.User, Host: net.JoinHostPort(proxy.Hostname(), port)}, nil
}

func proxyError(option, problem string) error {
	return fmt.Errorf("%s: %s; expected [http|https|socks5]://[user:password@]host:port, "+
		"special characters of user and password percent-encoded", option, problem)
}

// alwaysDirect are the places that no proxy can reach.
var alwaysDirect = []string{"127.0.0.0/8", "localhost", "::1", ".svc", ".cluster.local"}

// directRule reports whether an address is to be reached without the proxy, by
// the rules of httpproxy. Entries that those would silently misread are
// errors.
func directRule(noProxy string, more []string) (func(addr string) bool, error) {
	var entries []string
	for _, given := range append(strings.Split(noProxy, ","), more...) {
		given = strings.TrimSpace(given)
		entry, err := directEntry(given)
		if err != nil {
			return nil, fmt.Errorf("no-proxy entry %q: %w", given, err)
		}
		entries = append(entries, entry)
	}
	config := httpproxy.Config{
		HTTPSProxy: "http://proxy", // only asked whether it applies
		NoProxy:    strings.Join(append(entries, alwaysDirect...), ","),
	}
	proxyFor := config.ProxyFunc()
	return func(addr string) bool {
		if host, port, err := net.SplitHostPort(addr); err == nil {
			addr = net.JoinHostPort(strings.TrimSuffix(host, "."), port)
		}
		proxy, err := proxyFor(&url.URL{Scheme: "https", Host: addr})
		return err == nil && proxy == nil
	}, nil
}

// directEntry is an entry as httpproxy reads it: an address without brackets
// where no port follows, a name without the dot that may end it.
func directEntry(entry string) (string, error) {
	switch {
	case entry == "" || entry == "*":
		return entry, nil
	case strings.Contains(entry, "://"):
		return "", errors.New("expected a host, without scheme")
	case strings.ContainsAny(entry, " \t\r\n;|"):
		return "", errors.New("expected one host; separate entries by commas")
	}
	if strings.Contains(entry, "/") {
		if _, _, err := net.ParseCIDR(entry); err != nil {
			return "", errors.New("expected a range such as 10.0.0.0/8")
		}
		return entry, nil
	}
	host, port, err := net.SplitHostPort(entry)
	switch {
	case err != nil: // no port
		host, port = entry, ""
		if strings.HasPrefix(entry, "[") && strings.HasSuffix(entry, "]") {
			host = entry[1 : len(entry)-1]
		}
	case !validPort(port):
		return "", errors.New("the port is not between 1 and 65535")
	}
	host = strings.TrimSuffix(host, ".")
	if err := checkDirect(host); err != nil {
		return "", err
	}
	if port == "" {
		return host, nil
	}
	return net.JoinHostPort(host, port), nil
}

// checkDirect judges the host of an entry.
func checkDirect(host string) error {
	name := strings.TrimPrefix(strings.TrimPrefix(host, "*"), ".")
	switch {
	case strings.Contains(strings.TrimPrefix(host, "*."), "*"):
		return errors.New("expected * alone or as in *.example.com; ranges of addresses are written as 10.0.0.0/8")
	case name == "" || strings.HasPrefix(name, "."):
		return errors.New("the host is missing")
	case net.ParseIP(host) != nil:
		return nil
	case strings.Trim(name, "0123456789.") == "":
		return errors.New("expected a whole address, such as 10.0.0.1, or a range, such as 10.0.0.0/8")
	case strings.ContainsAny(name, "[]"):
		return errors.New("expected [address] or [address]:port")
	case strings.Contains(name, ":"): // also an address with a zone, which matches nothing
		return errors.New("expected an address such as 2001:db8::1, or [2001:db8::1]:port")
	}
	return nil
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}
