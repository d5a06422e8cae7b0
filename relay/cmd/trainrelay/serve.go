package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/trainrelay/trainrelay/internal/cli"
	"github.com/trainrelay/trainrelay/internal/process"
	"github.com/trainrelay/trainrelay/internal/version"
	"github.com/trainrelay/trainrelay/relay"
)

// Serve is the command "trainrelay serve".
type Serve struct {
	Data          string   `help:"Folder of everything that the relay keeps. By default /var/lib/trainrelay for root, else $$XDG_STATE_HOME/trainrelay or ~/.local/state/trainrelay." placeholder:"DIR"`
	Listen        string   `help:"Address of the one port for users and agents." default:":8443" placeholder:"HOST:PORT"`
	Host          []string `help:"Name or address by which users and agents reach the relay; repeatable, the most usual first." placeholder:"NAME"`
	TLSCert       string   `name:"tls-cert" help:"Certificate chain in PEM, instead of one that the relay makes." placeholder:"FILE"`
	TLSKey        string   `name:"tls-key" help:"Its key in PEM." placeholder:"FILE"`
	NewSigningKey bool     `help:"Make a signing key although clusters trust one that is lost; each of them has to join again."`

	NATS external `embed:"" prefix:"nats-"`
	OTLP onward   `embed:"" prefix:"otlp-"`

	LogLevel  string `help:"One of ${enum}." enum:"debug,info,warn,error" default:"info"`
	LogFormat string `help:"One of ${enum}; by default console on a terminal, else json." enum:"json,console,auto" default:"auto"`
}

// Run runs the relay until ctx is done.
func (s *Serve) Run(ctx context.Context, stdio cli.IO) (err error) {
	format := s.LogFormat
	if format == "auto" {
		format = ""
	}
	log, err := process.NewLogger(process.LogOptions{Out: stdio.Err, Level: s.LogLevel, Format: format, NoColor: stdio.Getenv("NO_COLOR") != ""})
	if err != nil {
		return err
	}
	data, err := s.dataDir(stdio.Getenv)
	if err != nil {
		return err
	}
	unlock, err := lock(data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := process.RegisterBuild(registry, "trainrelay"); err != nil {
		return err
	}

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --listen", err)
	}
	defer listener.Close() // the front has closed it, unless the start failed
	var front *relay.Front
	front, err = relay.NewFront(relay.FrontOptions{
		Data: data, Listener: listener, Hosts: s.Host, CertFile: s.TLSCert, KeyFile: s.TLSKey,
		Serving: func() {
			log.Info().Str("version", version.Short()).Str("listen", listener.Addr().String()).Str("data", data).Msg("serving")
			greet(stdio, front, listener.Addr(), data)
		},
		Log: log, Registerer: registry, Gatherer: registry,
	})
	if err != nil {
		return err
	}
	nats, err := s.NATS.options()
	if err != nil {
		return err
	}
	target, err := s.OTLP.target()
	if err != nil {
		return err
	}
	r, err := relay.New(relay.Options{
		Data: data, Front: front.Run, NATS: nats, NewSigningKey: s.NewSigningKey, Authority: front.Authority, Export: target,
		Log: log, Registerer: registry,
	})
	if err != nil {
		return err
	}
	log.Info().Str("data", data).Msg("starting")
	if err := r.Run(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	log.Info().Msg("stopped")
	return nil
}

// greet tells a person where everything is.
func greet(stdio cli.IO, front *relay.Front, at net.Addr, data string) {
	fmt.Fprintf(stdio.Out, "The relay serves %s (listening on %s).\n  data       %s\n", front.URL(), at, data)
	if _, err := os.Stat(front.ClientFile()); err == nil {
		fmt.Fprintf(stdio.Out, "  client     export TRAINRELAY_CONFIG=%s\n", front.ClientFile())
	}
	if file := front.AuthorityFile(); file != "" {
		fmt.Fprintf(stdio.Out, "  authority  %s\n", file)
	}
	fmt.Fprintln(stdio.Out, "Stop it with Ctrl-C or SIGTERM.")
}

// dataDir is the absolute path of the data folder.
func (s *Serve) dataDir(getenv func(string) string) (string, error) {
	dir := s.Data
	switch state, home := getenv("XDG_STATE_HOME"), getenv("HOME"); {
	case dir != "":
	case os.Geteuid() == 0:
		dir = "/var/lib/trainrelay"
	case state != "":
		dir = filepath.Join(state, "trainrelay")
	case home != "":
		dir = filepath.Join(home, ".local", "state", "trainrelay")
	default:
		return "", errors.New("no folder for the relay's data: HOME is not set; name one with --data")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("relay's data folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("relay's data folder: %w: name another one with --data", err)
	}
	return dir, nil
}

// lock keeps a second relay off the folder, however the first one ends.
func lock(dir string) (unlock func() error, _ error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the relay's data folder: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("another relay runs on it: stop that one, or name another folder with --data")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the relay's data folder %s: %w", dir, err), f.Close())
	}
	return f.Close, nil
}
