package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/testkit"
	"github.com/trainrelay/trainrelay/protocol"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"trainrelay": main})
}

// TestScript runs testdata/script: what the command line does, told by
// examples. Each script has a machine of its own, with these commands beside
// those of testscript:
//
//	relay start|stop        runs, or ends, the real relay on the folder data;
//	                        $RELAY is its URL
//	agent CLUSTER PART      plays an agent, whose join token is in the file token;
//	                        the parts are those of agentCommand
//	code N ARGS…            runs trainrelay, which must end with exit code N
//	interrupt N TEXT ARGS…  the same, with SIGINT once its stdout has the text
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			m := &machine{work: env.WorkDir}
			env.Values[machineKey{}] = m
			env.Defer(m.stop)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("PROGRAM", filepath.SplitList(env.Getenv("PATH"))[0]) // trainrelay's folder
			env.Setenv("TRAINRELAY_CONFIG", filepath.Join(env.WorkDir, "data", "client.json"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"relay":     relayCommand,
			"agent":     agentCommand,
			"code":      codeCommand,
			"interrupt": interruptCommand,
		},
	})
}

type machineKey struct{}

// machine is where one script runs.
type machine struct {
	work  string
	relay *exec.Cmd
	said  chan struct{} // closed once all that the relay says was read

	started protocol.Start  // by the last agent
	joined  *testkit.Joined // the last agent's keys
}

func machineOf(ts *testscript.TestScript) *machine { return ts.Value(machineKey{}).(*machine) }

// command is trainrelay in the script's world.
func command(ctx context.Context, ts *testscript.TestScript, args ...string) *exec.Cmd {
	program := "trainrelay"
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if file := filepath.Join(dir, program); filepath.IsAbs(dir) && exists(file) {
			program = file
		}
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TRAINRELAY_CONFIG", "TMPDIR", "NO_COLOR", "HTTPS_PROXY", "HF_TOKEN"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	return cmd
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func relayCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: relay start|stop")
	}
	m := machineOf(ts)
	if args[0] == "stop" {
		m.stop()
		return
	}
	cmd := command(context.Background(), ts, "serve", "--data", filepath.Join(m.work, "data"), "--listen", "127.0.0.1:0", "--log-level", "debug")
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	errs, err := os.OpenFile(filepath.Join(m.work, "relay.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	ts.Check(err)
	defer errs.Close()
	cmd.Stderr = errs
	ts.Check(cmd.Start())
	m.relay, m.said = cmd, make(chan struct{})
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if strings.Contains(line, "client.json") {
			break
		}
		if err != nil {
			ts.Fatalf("the relay ended before it was ready: %s", ts.ReadFile(filepath.Join(m.work, "relay.log")))
		}
	}
	cfg, err := m.config()
	ts.Check(err)
	ts.Setenv("RELAY", cfg.URL)
	go func() {
		defer close(m.said)
		_, _ = io.Copy(io.Discard, lines) // ends with the process
	}()
}

// stop ends the relay as init does, and waits.
func (m *machine) stop() {
	if m.relay == nil {
		return
	}
	_ = m.relay.Process.Signal(syscall.SIGTERM) // it may be gone
	<-m.said
	_ = m.relay.Wait() // how it ends is another test's
	m.relay = nil
}

func codeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N ARGS…")
	}
	cmd := command(context.Background(), ts, args[1:]...)
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		ts.Check(err)
	}
	if got := cmd.ProcessState.String(); got != "exit status "+args[0] {
		ts.Fatalf("trainrelay %s: %s, want exit status %s", strings.Join(args[1:], " "), got, args[0])
	}
}

func interruptCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: interrupt N TEXT ARGS…")
	}
	cmd := command(context.Background(), ts, args[2:]...)
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	cmd.Stderr = ts.Stderr()
	ts.Check(cmd.Start())
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if strings.Contains(line, args[1]) {
			break
		}
		if err != nil {
			ts.Fatalf("trainrelay ended before it said %q: %v", args[1], cmd.Wait())
		}
	}
	ts.Check(cmd.Process.Signal(os.Interrupt))
	_, err = io.Copy(ts.Stdout(), lines)
	ts.Check(err)
	_ = cmd.Wait() // the code is looked at next
	if got := cmd.ProcessState.String(); got != "exit status "+args[0] {
		ts.Fatalf("trainrelay %s: %s, want exit status %s", strings.Join(args[2:], " "), got, args[0])
	}
}

// config is the client configuration that the relay has written.
func (m *machine) config() (client.Config, error) {
	return client.LoadConfig(filepath.Join(m.work, "data", "client.json"))
}
