package proxies

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/trainrelay/trainrelay/e2e/cluster/host"
	"github.com/trainrelay/trainrelay/internal/testkit"
)

// proxy is a real proxy program in its place.
type proxy struct {
	t       *testing.T
	command command
	addr    string // host:port on the site
	scheme  string
	log     string                     // file that says what it carried
	carried *regexp.Regexp             // of a line of it; the first group is the target
	target  func(logged string) string // nil where it is logged as it was asked for
	user    string                     // and password, as a URL has them
	ca      []byte                     // that certificates are of, where it has any
	process *host.Process

	passwords int // that it has had
}

// newProxy makes a proxy that is not started yet. Its folder is dir.
func newProxy(t *testing.T, name string) (p *proxy, dir string) {
	t.Helper()
	name = fmt.Sprintf("proxy-%s-%d", name, ports.Add(1))
	dir = world.path(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p = &proxy{
		t: t, addr: fmt.Sprintf("%s:%d", proxiesIP, 3000+ports.Add(1)), scheme: "http", log: world.log(name),
		command: command{name: name, place: proxiesPlace, hosts: names}, user: proxyUserInfo,
	}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			for _, file := range []string{world.log(name), p.log} {
				text, _ := os.ReadFile(file)
				t.Logf("%s:\n%s", file, text)
			}
		}
	})
	return p, dir
}

// start starts the proxy and waits until it listens.
func (p *proxy) start() *proxy {
	p.t.Helper()
	process, err := world.start(p.t.Context(), p.command)
	if err != nil {
		p.t.Fatal(err)
	}
	p.process = process
	until(p.t, p.command.name+" listens", func() bool {
		if !process.Alive() {
			p.t.Fatalf("%s has ended:\n%s", p.command.name, host.Tail(world.log(p.command.name)))
		}
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return p
}

// stop asks the proxy to end, so that it logs what it carried, and kills it
// where it does not.
func (p *proxy) stop() {
	p.t.Helper()
	if p.process == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.t.Context()), time.Second)
	defer cancel()
	if err := p.process.Stop(ctx); err != nil {
		p.t.Error(err)
	}
}

// kill ends the proxy at once.
func (p *proxy) kill() {
	p.t.Helper()
	if err := p.process.Kill(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// url is the setting for an agent.
func (p *proxy) url() string { return p.scheme + "://" + p.user + "@" + p.addr }

// targets are those that the proxy's log says it led to.
func (p *proxy) targets() map[string]int {
	p.t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	targets := make(map[string]int)
	for _, found := range p.carried.FindAllStringSubmatch(string(text), -1) {
		target := found[1]
		if p.target != nil {
			target = p.target(target)
		}
		targets[target]++
	}
	return targets
}

// squidOptions make squid another proxy.
type squidOptions struct {
	addr      string             // where it listens, when not just anywhere
	authority *testkit.Authority // of its certificates; one of its own when nil
	tls       bool               // to the proxy itself, with a certificate of a CA of its own
	bump      bool               // it intercepts TLS, with a CA of its own
	upgrade   bool               // and lets WebSockets through where it does
	more      string
	rules     string // http_access lines before all others
}

const squidConfig = `
pid_filename none
visible_hostname proxy.trainrelay.test
coredump_dir %[1]s
cache deny all
cache_log %[1]s/cache.log
logformat told %%un %%rm %%ru %%>Hs
access_log stdio:%[1]s/access.log logformat=told
dns_nameservers 127.0.0.1
shutdown_lifetime 0 seconds
auth_param basic program /usr/lib/squid/basic_ncsa_auth %[1]s/passwd
auth_param basic credentialsttl 1 second
acl users proxy_auth REQUIRED
%[2]s
http_access allow users
http_access deny all
%[3]s
`

// squid is Debian's squid-openssl, which wants user and password.
func squid(t *testing.T, name string, o squidOptions) *proxy {
	t.Helper()
	p, dir := newProxy(t, name)
	p.addr = cmp.Or(o.addr, p.addr)
	listen := "http_port " + p.addr
	authority := cmp.Or(o.authority, testkit.NewAuthority(t))
	switch {
	case o.tls:
		p.scheme, p.ca = "https", authority.PEM
		cert, key := authority.Issue(proxiesIP)
		listen = fmt.Sprintf("https_port %s tls-cert=%s tls-key=%s", p.addr, writeFile(t, dir+"/cert.pem", string(cert)), writeFile(t, dir+"/key.pem", string(key)))
	case o.bump:
		p.ca = authority.PEM
		store := filepath.Join(dir, "certificates")
		call(t, "/usr/lib/squid/security_file_certgen", "-c", "-s", store, "-M", "4MB")
		listen += fmt.Sprintf(" ssl-bump tls-cert=%s tls-key=%s generate-host-certificates=on\nssl_bump bump all\ntls_outgoing_options cafile=%s\nsslcrtd_program /usr/lib/squid/security_file_certgen -s %s -M 4MB",
			writeFile(t, dir+"/ca.pem", string(authority.PEM)), writeFile(t, dir+"/ca-key.pem", string(authority.KeyPEM())),
			writeFile(t, dir+"/relay.pem", world.relay.ca), store)
	}
	if o.upgrade {
		listen += "\nhttp_upgrade_request_protocols websocket allow all"
	}
	// Its shared memory has this name.
	service := "px" + p.addr[strings.LastIndexByte(p.addr, ':')+1:]
	config := fmt.Sprintf(squidConfig, dir, o.rules, listen+"\n"+o.more)
	p.password(proxyPassword)
	p.log = filepath.Join(dir, "access.log")
	// Of all methods: what is intercepted is logged as what it is.
	p.carried = regexp.MustCompile(`(?m)^` + proxyUser + ` [A-Z]+ (?:https://)?([^/ \n]+)\S* (?:200|101)$`)
	p.command.args = []string{"/usr/sbin/squid", "-N", "-n", service, "-f", writeFile(t, dir+"/squid.conf", config)}
	call(t, "chown", "-R", "proxy:proxy", dir)
	return p
}

// password makes squid accept the password from now on.
func (p *proxy) password(password string) {
	p.t.Helper()
	hash := exec.CommandContext(p.t.Context(), "openssl", "passwd", "-apr1", "-stdin")
	hash.Stdin = strings.NewReader(password)
	hashed, err := hash.Output()
	if err != nil {
		p.t.Fatal(err)
	}
	file := filepath.Join(world.path(p.command.name), "passwd")
	writeFile(p.t, file, proxyUser+":"+string(hashed))
	// squid's helper reads the file anew where its time, in whole seconds, is
	// another one.
	p.passwords++
	later := time.Now().Add(time.Duration(p.passwords) * time.Minute)
	if err := os.Chtimes(file, later, later); err != nil {
		p.t.Fatal(err)
	}
}

// tinyproxy wants user and password.
func tinyproxy(t *testing.T, name string) *proxy {
	t.Helper()
	p, dir := newProxy(t, name)
	ip, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	const plain = "s3cret" // it reads nothing but letters and digits
	p.user = proxyUser + ":" + plain
	p.carried = regexp.MustCompile(`CONNECT (\S+) HTTP`)
	p.command.args = []string{"/usr/bin/tinyproxy", "-d", "-c", writeFile(t, dir+"/conf", fmt.Sprintf(
		"Listen %s\nPort %s\nTimeout 600\nMaxClients 50\nLogLevel Connect\nBasicAuth %s %s\n", ip, port, proxyUser, plain))}
	return p
}

// microsocks is a SOCKS5 proxy that wants user and password.
func microsocks(t *testing.T, name string) *proxy { return microsocksAt(t, name, "", proxyPassword) }

func microsocksAt(t *testing.T, name, addr, password string) *proxy {
	t.Helper()
	p, _ := newProxy(t, name)
	p.addr = cmp.Or(addr, p.addr)
	ip, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	p.scheme = "socks5"
	p.carried = regexp.MustCompile(`connected to (\S+)`)
	p.command.args = []string{"/usr/bin/microsocks", "-i", ip, "-p", port, "-u", proxyUser, "-P", password}
	return p
}

const danteConfig = `
logoutput: stderr
internal: %[1]s port = %[2]s
external: cloud
user.privileged: root
user.unprivileged: nobody
clientmethod: none
socksmethod: username
client pass {
	from: 0/0 to: 0/0
}
socks pass {
	from: 0/0 to: 0/0
	command: connect
	log: connect
}
`

// dante is a SOCKS5 proxy that wants name and password of a user of the
// machine, which this one is in its eyes only.
func dante(t *testing.T, name string) *proxy {
	t.Helper()
	p, dir := newProxy(t, name)
	ip, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	hash := exec.CommandContext(t.Context(), "openssl", "passwd", "-6", "-stdin")
	hash.Stdin = strings.NewReader(proxyPassword)
	hashed, err := hash.Output()
	if err != nil {
		t.Fatal(err)
	}
	p.scheme = "socks5h"
	p.carried = regexp.MustCompile(`(?m)pass\(\d\): tcp/connect \[: .* -> \S+ (\S+)$`)
	p.target = func(ip string) string { // as in 10.78.0.2.8443
		dot := strings.LastIndexByte(ip, '.')
		for name := range names {
			if names[name] == ip[:dot] && strings.Contains(relayName+natsName, name) {
				return name + ":" + ip[dot+1:]
			}
		}
		return ip
	}
	p.command.files = map[string]string{
		"/etc/passwd": "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n" + proxyUser + ":x:65533:65534::/:/bin/false\n",
		"/etc/shadow": "root:*:1:0:99999:7:::\nnobody:*:1:0:99999:7:::\n" + proxyUser + ":" + strings.TrimSpace(string(hashed)) + ":1:0:99999:7:::\n",
	}
	p.command.args = []string{"/usr/sbin/danted", "-f", writeFile(t, dir+"/conf", fmt.Sprintf(danteConfig, ip, port))}
	return p
}

func call(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
