package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"golang.org/x/net/http/httpproxy"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/version"
)

// app is what every command is given.
type app struct {
	io     IO
	config string // of --config
	relay  *client.Client
}

// close lets go of connections.
func (a *app) close() {
	if a.relay != nil {
		a.relay.Close()
	}
}

// notef tells people something, on stderr.
func (a *app) notef(format string, args ...any) {
	fmt.Fprintf(a.io.Err, format+"\n", args...)
}

// colour says whether what goes to w may be coloured.
func (a *app) colour(w io.Writer) bool {
	return a.io.IsTerminal(w) && a.io.Getenv("NO_COLOR") == "" && a.io.Getenv("TERM") != "dumb"
}

// connect makes the client of the configured relay. It does not dial yet.
func (a *app) connect() (*client.Client, error) {
	c, _, err := a.connectWith()
	return c, err
}

func (a *app) connectWith() (*client.Client, client.Config, error) {
	file, err := a.configFile()
	if err != nil {
		return nil, client.Config{}, err
	}
	cfg, err := client.LoadConfig(file)
	if err != nil {
		return nil, client.Config{}, usage{err, "`trainrelay login` writes one; another one is given by --config"}
	}
	c, err := client.New(cfg, client.Options{UserAgent: "trainrelay/" + version.Short(), Proxy: a.proxy()})
	if err != nil {
		return nil, client.Config{}, usage{fmt.Errorf("%s: %w", file, err), ""}
	}
	a.relay = c
	return c, cfg, nil
}

// configFile finds the client's configuration: the one that was named, the
// user's own, or the one that a relay on this machine has written.
func (a *app) configFile() (string, error) {
	if a.config != "" {
		return a.config, nil
	}
	if file := a.io.Getenv("TRAINRELAY_CONFIG"); file != "" {
		return file, nil
	}
	var files []string
	home := a.io.Getenv("HOME")
	for _, at := range []struct{ variable, below string }{{"XDG_CONFIG_HOME", ".config"}, {"XDG_STATE_HOME", ".local/state"}} {
		dir := a.io.Getenv(at.variable)
		if dir == "" && home != "" {
			dir = filepath.Join(home, at.below)
		}
		if dir != "" {
			files = append(files, filepath.Join(dir, "trainrelay", "client.json"))
		}
	}
	files = append(files, "/var/lib/trainrelay/client.json")
	for _, file := range files {
		if f, err := os.Open(file); err == nil {
			return file, f.Close()
		}
	}
	return "", usage{errors.New("no relay is configured: looked for " + strings.Join(files, ", ")),
		"trainrelay login --url https://HOST:PORT; or name a client.json, such as that of the relay's data folder, with --config or TRAINRELAY_CONFIG"}
}

// ownConfig is where login keeps the configuration: the file that was named,
// or the user's own.
func (a *app) ownConfig() (string, error) {
	for _, file := range []string{a.config, a.io.Getenv("TRAINRELAY_CONFIG")} {
		if file != "" {
			return file, nil
		}
	}
	if dir := a.io.Getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "trainrelay", "client.json"), nil
	}
	if home := a.io.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".config", "trainrelay", "client.json"), nil
	}
	return "", usage{errors.New("no folder for the client's configuration: HOME is not set"), "name a file with --config"}
}

// proxy follows the usual variables.
func (a *app) proxy() func(*http.Request) (*url.URL, error) {
	get := func(name string) string {
		if value := a.io.Getenv(name); value != "" {
			return value
		}
		return a.io.Getenv(strings.ToLower(name))
	}
	choose := (&httpproxy.Config{HTTPProxy: get("HTTP_PROXY"), HTTPSProxy: get("HTTPS_PROXY"), NoProxy: get("NO_PROXY")}).ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return choose(r.URL) }
}

// target is the thing that a command is about: -n NAME as az has it, or just
// NAME.
type target struct {
	Flag     string `name:"name" short:"n" help:"Its name." placeholder:"NAME"`
	Argument string `arg:"" optional:"" name:"name" help:"Its name, instead of --name."`
}

func (t target) name() (string, error) {
	switch {
	case t.Flag != "" && t.Argument != "" && t.Flag != t.Argument:
		return "", usage{fmt.Errorf("two names: %q and %q", t.Flag, t.Argument), "give one"}
	case t.Flag == "" && t.Argument == "":
		return "", usage{errors.New("whose name is missing"), "add --name NAME"}
	case t.Flag != "":
		return t.Flag, nil
	}
	return t.Argument, nil
}

// oneLine makes a stranger's text fit for one line of a terminal.
func oneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '�'
		}
		return r
	}, s))
}
