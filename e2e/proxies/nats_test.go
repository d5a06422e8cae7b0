package proxies

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/e2e/cluster/host"
	"github.com/trainrelay/trainrelay/internal/testkit"
)

// brokerName is that of NATS servers beside relays.
const brokerName = "broker." + relayDomain

// TestExternalNATS: with a NATS server of one's own, which the agent reaches
// through squid, it joins and takes a job to Completed. The commands are those of
// docs/operate.md. They let no server be reached from elsewhere in the clear: for
// that, the test changes the address in the server's configuration.
func TestExternalNATS(t *testing.T) {
	for scheme, server := range map[string]struct{ port, relay, url string }{
		"tls":  {"4224", "8444", "tls://" + brokerName + ":4224"},
		"nats": {"4225", "8445", "nats://127.0.0.1:4225"},
	} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			authority := testkit.NewAuthority(t)
			dir := t.TempDir()
			cert, key := authority.Issue(brokerName)
			writeFile(t, dir+"/tls.crt", string(cert))
			writeFile(t, dir+"/tls.key", string(key))
			ca := writeFile(t, dir+"/ca.crt", string(authority.PEM))

			name := "broker-" + scheme
			// start does what the document says, with keys of a folder.
			start := func(keys string) (process *host.Process, serve []string) {
				configure, command := documented(t,
					"trainrelay nats", world.bin("trainrelay")+" nats", "/etc/trainrelay/nats", keys, "/etc/nats", dir,
					"tls://nats.example.com:4222", server.url, ":8443", "127.0.0.1:1"+server.relay)
				if scheme == "nats" {
					configure = strings.Replace(configure, " --tls-cert "+dir+"/tls.crt --tls-key "+dir+"/tls.key", "", 1)
				}
				configure = strings.Replace(configure, " >", " --store-dir "+dir+"/store --listen 127.0.0.1:"+server.port+" >", 1) +
					"\nsed -i 's/^listen: .*/listen: \":" + server.port + "\"/' nats.conf"
				shell := exec.CommandContext(t.Context(), "bash", "-euc", configure)
				shell.Dir = dir
				if out, err := shell.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", configure, err, out)
				}
				process = startBroker(t, name, dir+"/nats.conf", relayIP+":"+server.port)
				return process, strings.Fields(command)[2:] // after "trainrelay serve"
			}
			broker, args := start(dir + "/keys")
			if scheme == "tls" {
				args = append(args, "--nats-ca-file", ca)
			}
			r, err := startRelay(t.Context(), world, "relay-"+scheme, server.relay, args...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := r.process.Kill(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			})

			p := squid(t, name, squidOptions{}).start()
			target := brokerName + ":" + server.port
			a := newAgent(t, name, setup{at: r, proxy: p.url(), nats: scheme + "://" + target,
				ca: slices.Concat([]byte(r.ca), authority.PEM)})
			a.connects()
			a.isConfined()
			a.works()

			// With other keys, as SECURITY.md has them replaced, it goes on.
			if err := broker.Kill(t.Context()); err != nil {
				t.Fatal(err)
			}
			start(dir + "/keys-2")
			r.restart(t, "--nats-keys", dir+"/keys-2")
			a.works()
			a.stop()
			p.stop()
			if targets := p.targets(); targets[target] == 0 || targets[r.target] == 0 {
				t.Errorf("the proxy led to %v, want the NATS server, and the relay for the join and the code", targets)
			}
		})
	}
}

// documented are the two commands of docs/operate.md for a NATS server, with
// words of theirs replaced by those of the test.
func documented(t *testing.T, words ...string) (configure, serve string) {
	t.Helper()
	text, err := os.ReadFile(world.repo + "/docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## A NATS server of your own\n")
	_, block, _ := strings.Cut(section, "\n```\n")
	block, rest, _ := strings.Cut(block, "\n```\n")
	if !strings.Contains(rest, "`nats-server -c nats.conf`") {
		t.Error("docs/operate.md starts the NATS server otherwise than this test")
	}
	for i := 0; i < len(words); i += 2 {
		if !strings.Contains(block, words[i]) {
			t.Fatalf("docs/operate.md has no %q in\n%s", words[i], block)
		}
	}
	block = strings.NewReplacer(words...).Replace(strings.ReplaceAll(block, "\\\n ", ""))
	configure, serve, _ = strings.Cut(block, "\n")
	if !strings.HasPrefix(serve, "trainrelay serve ") || strings.Contains(serve, "\n") {
		t.Fatalf("docs/operate.md has other commands:\n%s", block)
	}
	return configure, serve
}

// startBroker runs nats-server where the relay is, until the test ends.
func startBroker(t *testing.T, name, config, addr string) *host.Process {
	t.Helper()
	program := world.bin("cluster/nats-server")
	if _, err := os.Stat(program); errors.Is(err, os.ErrNotExist) {
		t.Fatal("there is no nats-server: make cluster-build")
	}
	process, err := world.start(t.Context(), command{name: name, place: relayPlace, args: []string{program, "-c", config}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.Kill(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	until(t, name+" listens", func() bool {
		if !process.Alive() {
			t.Fatalf("%s has ended:\n%s", name, host.Tail(world.log(name)))
		}
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return process
}
