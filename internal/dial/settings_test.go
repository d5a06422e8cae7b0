package dial

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoute(t *testing.T) {
	const proxy = "http://proxy.example:3128"
	for _, test := range []struct {
		opts Options
		addr string
		want string
	}{
		{Options{}, "relay.example:443", "direct"},
		{Options{HTTPSProxy: proxy}, "relay.example:443", proxy},
		{Options{HTTPSProxy: "proxy.example"}, "relay.example:443", "http://proxy.example:80"},
		{Options{HTTPSProxy: "https://proxy.example/"}, "relay.example:443", "https://proxy.example:443"},
		{Options{HTTPSProxy: "socks5h://proxy.example"}, "relay.example:443", "socks5h://proxy.example:1080"},
		{Options{HTTPSProxy: "http://[2001:db8::1]:3128"}, "relay.example:443", "http://[2001:db8::1]:3128"},
		{Options{HTTPSProxy: "http://alice:secret@proxy.example:3128"}, "relay.example:443", "http://proxy.example:3128"},
		{Options{HTTPProxy: proxy}, "relay.example:443", proxy},
		{Options{HTTPSProxy: proxy, HTTPProxy: "http://other.example:1"}, "relay.example:80", proxy},
		// always direct
		{Options{HTTPSProxy: proxy}, "127.0.0.1:443", "direct"},
		{Options{HTTPSProxy: proxy}, "127.8.0.1:443", "direct"},
		{Options{HTTPSProxy: proxy}, "LocalHost:443", "direct"},
		{Options{HTTPSProxy: proxy}, "[::1]:443", "direct"},
		{Options{HTTPSProxy: proxy}, "gateway.azureml.svc:80", "direct"},
		{Options{HTTPSProxy: proxy}, "gateway.azureml.svc.cluster.local:80", "direct"},
		{Options{HTTPSProxy: proxy, AlwaysDirect: []string{"10.96.0.1", "api.example"}}, "10.96.0.1:443", "direct"},
		{Options{HTTPSProxy: proxy, AlwaysDirect: []string{"10.96.0.1", "api.example"}}, "api.example:6443", "direct"},
		{Options{HTTPSProxy: proxy, AlwaysDirect: []string{"fd00::1"}}, "[fd00::1]:443", "direct"},
		{Options{HTTPSProxy: proxy, AlwaysDirect: []string{"10.96.0.1"}}, "10.96.0.2:443", proxy},
		// no-proxy
		{Options{HTTPSProxy: proxy, NoProxy: "*"}, "relay.example:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "relay.example"}, "relay.example:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "relay.example"}, "eu.relay.example:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "relay.example"}, "myrelay.example:443", proxy},
		{Options{HTTPSProxy: proxy, NoProxy: ".example"}, "relay.example:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: ".relay.example"}, "relay.example:443", proxy},
		{Options{HTTPSProxy: proxy, NoProxy: "*.example"}, "relay.example:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "relay.example:8443"}, "relay.example:8443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "relay.example:8443"}, "relay.example:443", proxy},
		{Options{HTTPSProxy: proxy, NoProxy: "a.example, 10.0.0.0/8 ,"}, "10.9.8.7:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "10.0.0.0/8"}, "11.0.0.1:443", proxy},
		{Options{HTTPSProxy: proxy, NoProxy: "2001:db8::/32"}, "[2001:db8::7]:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "192.0.2.1:443"}, "192.0.2.1:8443", proxy},
		{Options{HTTPSProxy: proxy, NoProxy: "192.0.2.1:443"}, "192.0.2.1:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "[2001:db8::7]:443"}, "[2001:db8::7]:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "[2001:db8::7]:443"}, "[2001:db8::7]:8443", proxy},
		{Options{HTTPSProxy: proxy, NoProxy: "2001:db8::7"}, "[2001:db8::7]:8443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "[2001:db8::7]"}, "[2001:db8::7]:8443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "[2001:db8::7]"}, "[2001:db8::8]:8443", proxy},
		{Options{HTTPSProxy: proxy, NoProxy: "relay.example."}, "relay.example:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "relay.example.:8443"}, "relay.example:8443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: ".example."}, "relay.example:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "relay.example"}, "relay.example.:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "10-0-0-1.example,1e100.example"}, "1e100.example:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: ".example:8443"}, "relay.example:8443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: ".example:8443"}, "relay.example:443", proxy},
		{Options{HTTPSProxy: proxy, NoProxy: "RELAY.Example"}, "relay.example:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: ".EXAMPLE"}, "relay.example:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "relay.example"}, "RELAY.EXAMPLE:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "\t relay.example \n,"}, "relay.example:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "a.example,*"}, "relay.example:443", "direct"},
		{Options{HTTPSProxy: proxy, NoProxy: "10.0.0.0/8"}, "ten.example:443", proxy}, // names are not resolved
	} {
		if got := newDialer(t, test.opts).Route(test.addr); got != test.want {
			t.Errorf("%+v: route to %s is %s, want %s", test.opts, test.addr, got, test.want)
		}
	}
}

func TestNewRefusesBadSettings(t *testing.T) {
	for _, test := range []struct {
		opts Options
		want string
	}{
		{Options{HTTPSProxy: "ftp://alice:hunter2@proxy.example"}, "https proxy: its scheme"},
		{Options{HTTPProxy: "ftp://alice:hunter2@proxy.example"}, "http proxy: its scheme"},
		{Options{HTTPSProxy: "http://alice:hunter2@"}, "the host is missing"},
		{Options{HTTPSProxy: "http://"}, "the host is missing"},
		{Options{HTTPSProxy: "http://alice:hunter2#4@proxy.example:3128"}, "not a URL"},
		{Options{HTTPSProxy: "http://alice:12#hunter2@proxy.example:3128"}, "something follows"},
		{Options{HTTPSProxy: "http://alice:12/hunter2@proxy.example:3128"}, "something follows"},
		{Options{HTTPSProxy: "http://alice:12?hunter2@proxy.example:3128"}, "something follows"},
		{Options{HTTPSProxy: "http://alice:hunter2%zz@proxy.example:3128"}, "not a URL"},
		{Options{HTTPSProxy: "http://alice:hunter2@proxy.example:0"}, "the port"},
		{Options{HTTPSProxy: "http://alice:hunter2@proxy.example:70000"}, "the port"},
		{Options{HTTPSProxy: "http://a%3Ab:hunter2@proxy.example"}, "colon"},
		{Options{HTTPSProxy: "alice:hunter2\n@proxy.example"}, "not a URL"},
		{Options{NoProxy: "10.0.0.0/33"}, `no-proxy entry "10.0.0.0/33"`},
		{Options{NoProxy: "a.example b.example"}, "separate entries by commas"},
		{Options{NoProxy: "https://a.example"}, "without scheme"},
		{Options{NoProxy: "10.*"}, "10.0.0.0/8"},
		{Options{NoProxy: "*example.com"}, "as in *.example.com"},
		{Options{NoProxy: ":8443"}, "the host is missing"},
		{Options{NoProxy: "a.example,."}, `no-proxy entry ".": the host is missing`},
		{Options{NoProxy: "*:8443"}, "expected * alone"},
		{Options{NoProxy: "[]"}, "the host is missing"},
		{Options{NoProxy: "..example"}, "the host is missing"},
		{Options{NoProxy: "a.example:https"}, "the port is not between 1 and 65535"},
		{Options{NoProxy: "a.example:"}, "the port"},
		{Options{NoProxy: "a.example:0"}, "the port"},
		{Options{NoProxy: "10.0.0"}, "expected a whole address"},
		{Options{NoProxy: "10."}, "expected a whole address"},
		{Options{NoProxy: "10.0.0.256"}, "expected a whole address"},
		{Options{NoProxy: ".10.0.0.1"}, "expected a whole address"},
		{Options{NoProxy: "10.0:80"}, "expected a whole address"},
		{Options{NoProxy: "2001:db8"}, "the port"},
		{Options{NoProxy: "2001:db8:7"}, "expected an address such as"},
		{Options{NoProxy: "[2001:db8::7"}, "expected [address]"},
		{Options{NoProxy: "fe80::7%eth0"}, "expected an address such as"},
		{Options{NoProxy: "[2001:db8::7]8443"}, "expected [address]"},
		{Options{AlwaysDirect: []string{"a/b"}}, `no-proxy entry "a/b"`},
		{Options{ProxyCA: []byte("hunter2")}, "proxy CA: no certificate"},
		{Options{RootCAs: []byte("hunter2")}, "root CAs: no certificate"},
	} {
		_, err := New(test.opts)
		if err == nil {
			t.Errorf("%+v was taken", test.opts)
			continue
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("error is %q, want something with %q", err, test.want)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error contains the password: %v", err)
		}
	}
}

func TestFromEnviron(t *testing.T) {
	environ := map[string]string{
		"HTTPS_PROXY": "upper:1", "https_proxy": "lower:1", "HTTP_PROXY": "plain:1", "NO_PROXY": ".corp",
		"KUBERNETES_SERVICE_HOST": "10.96.0.1",
	}
	got := FromEnviron(func(name string) string { return environ[name] })
	want := Options{HTTPSProxy: "lower:1", HTTPProxy: "plain:1", NoProxy: ".corp", AlwaysDirect: []string{"10.96.0.1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Options{}, FromEnviron(func(string) string { return "" })); diff != "" {
		t.Error(diff)
	}
}

func FuzzNoProxy(f *testing.F) {
	for _, seed := range []string{
		"", "*", "a.example", ".a.example", "*.a.example", "a.example:8443", "10.0.0.0/8", "10.0.0.1", "10.0.0.1:443",
		"[2001:db8::1]:443", "2001:db8::/32", " A.Example ,, .b", "10.0.0.0/33", "a.example;b.example", "%", "::1%eth0",
	} {
		f.Add(seed, "relay.example:443")
	}
	f.Fuzz(func(t *testing.T, noProxy, addr string) {
		d, err := New(Options{HTTPSProxy: "http://proxy.example:1", NoProxy: noProxy, AlwaysDirect: []string{"10.96.0.1"}})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: several lines of error: %q", noProxy, err)
			}
			return
		}
		_ = d.Route(addr)
		for _, inside := range []string{"127.0.0.1:1", "localhost:1", "[::1]:1", "a.b.svc:80", "a.b.svc.cluster.local:80", "10.96.0.1:443"} {
			if route := d.Route(inside); route != "direct" {
				t.Errorf("%q: route to %s is %s", noProxy, inside, route)
			}
		}
	})
}

func FuzzProxyURL(f *testing.F) {
	for _, seed := range []string{
		"http://alice:secret@proxy.example:3128", "proxy:1", "https://[::1]:2/", "socks5://a@b", "http://a:b#c@d:1", "%", "http://[::1%25eth0]:1",
	} {
		f.Add(seed, "10.0.0.0/8,.example,[::1]:3", "relay.example:443")
	}
	f.Fuzz(func(t *testing.T, proxy, noProxy, addr string) {
		d, err := New(Options{HTTPSProxy: proxy, NoProxy: noProxy})
		if err != nil {
			return
		}
		route := d.Route(addr)
		if strings.TrimSpace(proxy) == "" {
			if route != "direct" {
				t.Errorf("route %q without a proxy", route)
			}
			return
		}
		if d.proxy == nil {
			t.Fatalf("setting %q is taken but passed by", proxy)
		}
		if strings.Contains(route, "@") {
			t.Errorf("route %q contains the user of %q", route, proxy)
		}
	})
}
