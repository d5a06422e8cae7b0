package broker

import (
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// serverLog writes the server's log into the relay's.
type serverLog struct{ log, strangers zerolog.Logger }

func newServerLog(log zerolog.Logger) serverLog { return serverLog{log, ofStrangers(log)} }

// ofStrangers is for what anybody on the network can bring about: so many lines
// a minute, whatever they try.
func ofStrangers(log zerolog.Logger) zerolog.Logger {
	return log.Sample(&zerolog.BurstSampler{Burst: 10, Period: time.Minute})
}

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

// strange is in what the server says of clients that it did not let in or that
// break the protocol. They name their keys and users, never secrets.
var strange = []string{"authentication", "authorization", "auth callout", "maximum payload", "maximum control line", "maximum subscriptions", "maximum account", "parser error", "read error", "write error", "processing client", "permissions violation", "slow consumer", "producer was stalled"}

func (l serverLog) write(level zerolog.Level, format string, v []any) {
	text := fmt.Sprintf(format, v...)
	if level >= zerolog.WarnLevel {
		lower := strings.ToLower(text)
		for _, word := range strange {
			if strings.Contains(lower, word) {
				l.strangers.Warn().Msg(text)
				return
			}
		}
	}
	l.log.WithLevel(level).Msg(text)
}
