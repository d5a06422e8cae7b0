package host

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// create makes a host whose changes are taken back with the test.
func create(t *testing.T) *Host {
	t.Helper()
	h, err := Create(t.Context(), filepath.Join(t.TempDir(), "host"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Undo(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return h
}

// command is a process that lives until it is ended.
func command(h *Host, name string) Command {
	return Command{Name: name, Args: []string{"/bin/sleep", "600"}, Log: filepath.Join(h.dir, name+".log")}
}

func startSleep(t *testing.T, h *Host, name string) *Process {
	t.Helper()
	p, err := h.Start(t.Context(), command(h, name))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProcess(t *testing.T) {
	h := create(t)
	p := startSleep(t, h, "sleeper")
	if !p.Alive() {
		t.Fatal("it does not run")
	}
	if _, err := h.Start(t.Context(), command(h, "sleeper")); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("starting it twice: %v", err)
	}
	opened, err := Open(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Process("sleeper").Kill(t.Context()); err != nil { // as another process would
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil || p.Alive() {
		t.Errorf("after Kill: Wait %v, alive %t", err, p.Alive())
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("Stop of a dead process: %v", err)
	}
}

// A process that got the number of a dead one is nobody's to kill.
func TestRecycledNumber(t *testing.T) {
	h := create(t)
	stranger := startSleep(t, h, "stranger")
	boot, _, _ := strings.Cut(stranger.started, "/")
	for _, started := range []string{boot + "/1", "another-boot" + strings.TrimPrefix(stranger.started, boot)} {
		ours := &Process{name: "ours", pid: stranger.pid, started: started}
		if err := ours.Kill(t.Context()); err != nil {
			t.Error(err)
		}
		if !stranger.Alive() {
			t.Fatalf("a process that started at %s was taken for one of %s", stranger.started, started)
		}
	}
}

func TestUndo(t *testing.T) {
	h := create(t)
	p := startSleep(t, h, "recorded")
	unrecorded := exec.Command("/bin/sleep", "600") // killed owner: started, not written down
	unrecorded.Env = []string{mark + "=" + h.id}
	if err := unrecorded.Start(); err != nil {
		t.Fatal(err)
	}
	kept, made := filepath.Join(t.TempDir(), "kept"), filepath.Join(t.TempDir(), "a", "b")
	for _, folder := range []string{kept, made} {
		if err := h.MkdirAll(folder); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(kept, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.Alive() {
		t.Error("a process is alive after Undo")
	}
	if err := unrecorded.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the unrecorded process ended with %v", err)
	}
	if _, err := os.Stat(filepath.Dir(made)); err == nil {
		t.Error("a folder that was made is there after Undo")
	}
	if _, err := os.Stat(filepath.Join(kept, "file")); err != nil {
		t.Errorf("somebody else's file went with the folder: %v", err)
	}
}

func TestNotify(t *testing.T) {
	h := create(t)
	shell := func(name, script string) (*Process, error) {
		c := command(h, name)
		c.Args, c.Notify = []string{"/bin/sh", "-c", script}, true
		return h.Start(t.Context(), c)
	}
	if _, err := shell("ready", "echo ready >&3; exec sleep 600"); err != nil {
		t.Error(err)
	}
	_, err := shell("dying", "echo no such luck; exit 1")
	if err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("a process that ends before it is ready: %v", err)
	}
}

func TestJournalCutOff(t *testing.T) {
	dir := t.TempDir()
	text := `{"kind":"host","name":"id","pid":1}` + "\n" + `{"kind":"device","na`
	if err := os.WriteFile(filepath.Join(dir, journalName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := readJournal(dir)
	if err != nil || j.id() != "id" || len(j.entries) != 1 {
		t.Errorf("a journal whose last line is cut off: %v, %v", j, err)
	}
}

func TestOneOwner(t *testing.T) {
	h := create(t)
	if _, err := Create(t.Context(), h.dir); err == nil || !strings.Contains(err.Error(), "in use by process") {
		t.Errorf("a second owner: %v", err)
	}
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := Create(t.Context(), h.dir)
	if err != nil {
		t.Fatal(err)
	}
	p := startSleep(t, again, "sleeper")
	if err := Remove(t.Context(), h.dir); err != nil { // by the owner itself
		t.Error(err)
	}
	if _, err := os.Stat(h.dir); err == nil || p.Alive() {
		t.Errorf("after Remove: the folder %v, its process alive %t", err, p.Alive())
	}

	next, err := Create(t.Context(), h.dir)
	if err != nil {
		t.Fatal(err)
	}
	p = startSleep(t, next, "sleeper")
	if err := again.Undo(t.Context()); err != nil || !p.Alive() {
		t.Errorf("Undo of a removed host: %v, the next one's process alive %t", err, p.Alive())
	}
	if err := next.Undo(t.Context()); err != nil {
		t.Error(err)
	}
}

// The thread that enters a namespace is never the main one, which could not
// leave it again.
func TestMainThreadStays(t *testing.T) {
	var busy sync.WaitGroup
	for range 200 { // enough to find every thread idle once
		busy.Add(1)
		onThread(func() {
			defer busy.Done()
			if unix.Gettid() == os.Getpid() {
				t.Error("a function of onThread runs on the main thread")
			}
		})
	}
	busy.Wait()
}

// What is in a namespace with legs on two bridges is reached from both.
func TestNetwork(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	h := create(t)
	if err := h.AddNamespace("tr-test"); err != nil {
		t.Fatal(err)
	}
	for i, subnet := range []string{"10.87.1", "10.87.2"} {
		bridge := []string{"tr-test1", "tr-test2"}[i]
		if err := h.AddBridge(bridge, netip.MustParsePrefix(subnet+".1/24")); err != nil {
			t.Fatal(err)
		}
		leg := Leg{Namespace: "tr-test", Interface: "eth" + bridge[7:], Bridge: bridge, Address: netip.MustParsePrefix(subnet + ".2/24")}
		if err := h.AddLeg(leg); err != nil {
			t.Fatal(err)
		}
	}
	listening := make(chan net.Listener, 1)
	onThread(func() {
		if err := (Space{Net: "tr-test"}).enter(); err != nil {
			t.Error(err)
		}
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Error(err)
		}
		listening <- l
	})
	l := <-listening
	if l == nil {
		t.FailNow()
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, address := range []string{"10.87.1.2", "10.87.2.2"} {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, port), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		far.Write([]byte(address))
		far.Close()
		if got, err := io.ReadAll(conn); err != nil || string(got) != address {
			t.Errorf("read %q, %v", got, err)
		}
		conn.Close()
	}
	if err := h.AddBridge("tr-test1", netip.MustParsePrefix("10.87.3.1/24")); err == nil || !strings.Contains(err.Error(), h.dir) {
		t.Errorf("a bridge of the same name: %v", err)
	}
	for address, want := range map[string]bool{"10.87.1.1": true, "192.0.2.2": false} {
		_, err := Exec(t.Context(), Space{Net: "tr-test"}, "ip", "route", "get", address)
		if reached := err == nil; reached != want {
			t.Errorf("there is a route to %s: %t, want %t (%v)", address, reached, want, err)
		}
	}
}
