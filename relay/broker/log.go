package broker

import (
	"fmt"
	"strings"

	"github.com/rs/zerolog"
)

// serverLog writes the server's log into the relay's.
type serverLog struct{ log zerolog.Logger }

func (l serverLog) Noticef(format string, v ...any) { l.write(zerolog.DebugLevel, format, v) }
func (l serverLog) Errorf(format string, v ...any)  { l.write(zerolog.ErrorLevel, format, v) }
func (l serverLog) Debugf(format string, v ...any)  { l.write(zerolog.DebugLevel, format, v) }
func (l serverLog) Tracef(format string, v ...any)  { l.write(zerolog.TraceLevel, format, v) }

// Fatalf is an error like others: the process is not the server's to end.
func (l serverLog) Fatalf(format string, v ...any) { l.write(zerolog.ErrorLevel, format, v) }

// Warnf leaves out what is so by design: the WebSocket is on loopback, behind
// the relay's own TLS.
func (l serverLog) Warnf(format string, v ...any) {
	if !strings.HasPrefix(format, "Websocket not configured with TLS") {
		l.write(zerolog.WarnLevel, format, v)
	}
}

func (l serverLog) write(level zerolog.Level, format string, v []any) {
	l.log.WithLevel(level).Msg(fmt.Sprintf(format, v...))
}
