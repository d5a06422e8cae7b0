package process

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"
)

// LogOptions of a logger.
type LogOptions struct {
	Out     io.Writer // usually os.Stderr
	Level   string    // debug, info, warn or error; empty for info
	Format  string    // json or console; empty for console on a terminal, else json
	NoColor bool      // of the console format
}

// timeFormat has milliseconds, which zerolog's own has not.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// NewLogger makes a logger; times are UTC.
func NewLogger(opts LogOptions) (zerolog.Logger, error) {
	levels := map[string]zerolog.Level{
		"": zerolog.InfoLevel, "debug": zerolog.DebugLevel, "info": zerolog.InfoLevel,
		"warn": zerolog.WarnLevel, "error": zerolog.ErrorLevel,
	}
	level, ok := levels[opts.Level]
	if !ok {
		return zerolog.Nop(), fmt.Errorf("log level %q is none of debug, info, warn, error", opts.Level)
	}
	out := opts.Out
	switch opts.Format {
	case "":
		if isTerminal(out) {
			out = console(opts)
		}
	case "console":
		out = console(opts)
	case "json":
	default:
		return zerolog.Nop(), fmt.Errorf("log format %q is none of json, console", opts.Format)
	}
	stamp := zerolog.HookFunc(func(e *zerolog.Event, _ zerolog.Level, _ string) {
		e.Str(zerolog.TimestampFieldName, time.Now().UTC().Format(timeFormat))
	})
	return zerolog.New(out).Level(level).Hook(stamp), nil
}

func console(opts LogOptions) io.Writer {
	return zerolog.ConsoleWriter{Out: opts.Out, NoColor: opts.NoColor, TimeFormat: "15:04:05.000", TimeLocation: time.UTC}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
