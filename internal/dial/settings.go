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
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
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
	entries := append(strings.Split(noProxy, ","), more...)
	for _, entry := range entries {
		if err := checkDirect(strings.TrimSpace(entry)); err != nil {
			return nil, fmt.Errorf("no-proxy entry %q: %w", strings.TrimSpace(entry), err)
		}
	}
	config := httpproxy.Config{
		HTTPSProxy: "http://proxy", // only asked whether it applies
		NoProxy:    strings.Join(append(entries, alwaysDirect...), ","),
	}
	proxyFor := config.ProxyFunc()
	return func(addr string) bool {
		proxy, err := proxyFor(&url.URL{Scheme: "https", Host: addr})
		return err == nil && proxy == nil
	}, nil
}

func checkDirect(entry string) error {
	switch {
	case entry == "" || entry == "*":
		return nil
	case strings.Contains(entry, "://"):
		return errors.New("expected a host, without scheme")
	case strings.ContainsAny(entry, " \t\r\n;|"):
		return errors.New("expected one host; separate entries by commas")
	}
	if strings.Contains(entry, "/") {
		if _, _, err := net.ParseCIDR(entry); err != nil {
			return errors.New("expected a range such as 10.0.0.0/8")
		}
		return nil
	}
	if i := strings.Index(strings.TrimPrefix(entry, "*."), "*"); i >= 0 {
		return errors.New("expected * alone or as in *.example.com; ranges of addresses are written as 10.0.0.0/8")
	}
	return nil
}
