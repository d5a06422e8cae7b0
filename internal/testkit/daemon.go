package testkit

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Squid runs the real squid on loopback until the test ends and returns its
// address. It knows the hosts of the options, wants their user and password,
// and refuses the hosts of Denied. With Authority it is reached by TLS.
func Squid(t testing.TB, opts ProxyOptions) string {
	t.Helper()
	path := program(t, "squid")
	dir := sharedDir(t)
	addr := freeAddr(t)
	var conf, hosts strings.Builder
	listen := "http_port " + addr
	if opts.Authority != nil {
		certificate, key := opts.Authority.Issue("127.0.0.1")
		write(t, filepath.Join(dir, "cert.pem"), string(certificate))
		write(t, filepath.Join(dir, "key.pem"), string(key))
		listen = fmt.Sprintf("https_port %s tls-cert=%s/cert.pem tls-key=%s/key.pem", addr, dir, dir)
	}
	fmt.Fprintf(&conf, `%s
pid_filename none
access_log none
cache_log /dev/null
logfile_rotate 0
netdb_filename none
pinger_enable off
coredump_dir %s
visible_hostname squid.test
shutdown_lifetime 0 seconds
cache deny all
hosts_file %s/hosts
`, listen, dir, dir)
	for target, to := range opts.Hosts {
		fmt.Fprintf(&hosts, "%s %s\n", hostOf(t, to), hostOf(t, target))
	}
	for _, target := range opts.Denied {
		fmt.Fprintf(&conf, "acl denied dstdomain %s\n", hostOf(t, target))
	}
	if len(opts.Denied) > 0 {
		conf.WriteString("http_access deny denied\n")
	}
	if opts.User != "" {
		// The helper reads the words as squid encodes them.
		fmt.Fprintf(&conf, "auth_param basic program /bin/sh %s/auth\nacl users proxy_auth REQUIRED\nhttp_access allow users\n", dir)
		write(t, filepath.Join(dir, "auth"), fmt.Sprintf(
			"while read -r user password; do\n  if [ \"$user $password\" = '%s %s' ]; then echo OK; else echo ERR; fi\ndone\n",
			opts.User, opts.Password))
	} else {
		conf.WriteString("http_access allow all\n")
	}
	conf.WriteString("http_access deny all\n")
	write(t, filepath.Join(dir, "hosts"), hosts.String())
	write(t, filepath.Join(dir, "conf"), conf.String())
	// The service's name is that of its shared memory.
	_, port, _ := net.SplitHostPort(addr)
	run(t, addr, path, "-N", "-n", "test"+port, "-f", filepath.Join(dir, "conf"))
	return addr
}

// Tinyproxy runs the real tinyproxy on loopback until the test ends and
// returns its address. Of the options it knows User and Password.
func Tinyproxy(t testing.TB, opts ProxyOptions) string {
	t.Helper()
	path := program(t, "tinyproxy")
	dir := sharedDir(t)
	addr := freeAddr(t)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("Listen %s\nPort %s\nTimeout 60\nMaxClients 20\n", host, port)
	if opts.User != "" {
		conf += fmt.Sprintf("BasicAuth %s %s\n", opts.User, opts.Password)
	}
	write(t, filepath.Join(dir, "conf"), conf)
	run(t, addr, path, "-d", "-c", filepath.Join(dir, "conf"))
	return addr
}

// Microsocks runs the real microsocks, a SOCKS5 proxy, on loopback until the
// test ends and returns its address. Of the options it knows User and Password.
func Microsocks(t testing.TB, opts ProxyOptions) string {
	t.Helper()
	path := program(t, "microsocks")
	addr := freeAddr(t)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-i", host, "-p", port}
	if opts.User != "" {
		args = append(args, "-u", opts.User, "-P", opts.Password)
	}
	run(t, addr, path, args...)
	return addr
}

// program finds an installed program, also where only root's PATH would look.
func program(t testing.TB, name string) string {
	t.Helper()
	for _, candidate := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed: apt-get install %s", name, name)
	return ""
}

// sharedDir is a folder that a daemon can read after it gave up being root.
func sharedDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// freeAddr is an address on loopback at which nothing listens.
func freeAddr(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func hostOf(t testing.TB, addr string) string {
	t.Helper()
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// run starts a daemon, waits until it listens at addr and stops it when the
// test ends.
func run(t testing.TB, addr, path string, args ...string) {
	t.Helper()
	var output bytes.Buffer
	command := exec.Command(path, args...)
	command.Stdout, command.Stderr = &output, &output
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	command.WaitDelay = 2 * time.Second // its helpers hold the output open
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = command.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill() // it has nothing to save, and its helpers end with it
		<-ended
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	give := time.After(20 * time.Second)
	for {
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s ended:\n%s", path, output.String())
		case <-give:
			t.Fatalf("%s does not listen at %s", path, addr)
		case <-tick.C:
		}
	}
}
