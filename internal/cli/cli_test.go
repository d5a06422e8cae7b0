package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// command runs a command line without a relay.
func command(t *testing.T, env map[string]string, args ...string) (code int, out, errs string) {
	t.Helper()
	a, outBuffer, errBuffer := testApp(false, env)
	code = Main(t.Context(), args, a.io)
	return code, outBuffer.String(), errBuffer.String()
}

func TestCommandLine(t *testing.T) {
	for _, tc := range []struct {
		args string
		code int
		want string // on stdout where the code is 0, else on stderr
	}{
		{"", exitOK, "Usage: trainrelay"},
		{"help", exitOK, "Usage: trainrelay"},
		{"help job create", exitOK, "Usage: trainrelay job create"},
		{"job create --help", exitOK, "--file=FILE"},
		{"help exit-codes", exitOK, "  6  the relay cannot be reached"},
		{"help environment", exitOK, "NO_COLOR"},
		{"help output", exitOK, "JMESPath"},
		{"version", exitOK, versionLine() + "\n"},
		{"--version", exitOK, versionLine() + "\n"},
		{"jbo", exitUsage, `did you mean "job"?`},
		{"job create", exitUsage, "--file"},
		{"job list -o xml", exitUsage, "xml"},
		{"job show", exitUsage, "whose name is missing"},
		{"job show -n a b", exitUsage, "two names"},
		{"job show a --query [", exitUsage, "jmespath.org"},
		{"job show a --config /nonexistent.json", exitUsage, "/nonexistent.json"},
		{"job create -f /nonexistent.yml", exitUsage, "read the job file"},
		{"serve", exitUsage, "serve"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			code, out, errs := command(t, nil, strings.Fields(tc.args)...)
			text := errs
			if tc.code == exitOK {
				text = out
			}
			if code != tc.code || !strings.Contains(text, tc.want) {
				t.Errorf("exit code %d, want %d; want %q in\nstdout: %s\nstderr: %s", code, tc.code, tc.want, out, errs)
			}
		})
	}
}

type serveCommand struct {
	Listen string `default:"x"`
	ran    *string
}

func (s *serveCommand) Run() error { *s.ran = s.Listen; return nil }

func TestServeIsHandedIn(t *testing.T) {
	var ran string
	a, _, errs := testApp(false, nil)
	if code := Main(t.Context(), []string{"serve", "--listen", "here"}, a.io, Command{Name: "serve", Help: "Run the relay.", Grammar: &serveCommand{ran: &ran}}); code != exitOK || ran != "here" {
		t.Errorf("code %d, ran %q: %s", code, ran, errs)
	}
}

func TestConfigFile(t *testing.T) {
	home := t.TempDir()
	make := func(path string) string {
		path = filepath.Join(home, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	env := map[string]string{"HOME": home}
	a, _, _ := testApp(false, env)
	if _, err := os.Stat("/var/lib/trainrelay/client.json"); err != nil {
		if file, err := a.configFile(); err == nil || !strings.Contains(err.Error(), "no relay is configured") {
			t.Errorf("%s, %v", file, err)
		}
	}
	expect := func(want string) {
		t.Helper()
		if got, err := a.configFile(); err != nil || got != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	expect(make(".local/state/trainrelay/client.json"))
	expect(make(".config/trainrelay/client.json"))
	env["XDG_CONFIG_HOME"] = filepath.Join(home, "xdg")
	expect(make("xdg/trainrelay/client.json"))
	env["TRAINRELAY_CONFIG"] = "named"
	expect("named")
	a.config = "flag"
	expect("flag")
}

// TestLine: a moving line appears on a terminal only, gives way to what else
// is written, and is gone at the end.
func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, errs := testApp(true, nil)
		l := a.newLine()
		l.start()
		l.set("Queued\x1b")
		time.Sleep(time.Second) // of the bubble's clock
		synctest.Wait()
		l.hide(func() { errs.WriteString("note\n") })
		l.stop()
		l.stop()
		text := errs.String()
		if !strings.Contains(text, "Queued� (1s)\r\x1b[Knote\n") {
			t.Errorf("%q", text)
		}
	})
	a, _, errs := testApp(false, nil)
	l := a.newLine()
	l.start()
	l.set("Queued")
	l.stop()
	if errs.Len() > 0 {
		t.Errorf("not a terminal, yet %q", errs)
	}
}

func TestSize(t *testing.T) {
	var b bytes.Buffer
	for _, n := range []int64{0, 999, 1500, 2_500_000, 3_000_000_000} {
		b.WriteString(size(n) + ", ")
	}
	if got := b.String(); got != "0 B, 999 B, 1.5 kB, 2.5 MB, 3.0 GB, " {
		t.Error(got)
	}
}
