package bus

import (
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// quiet is how long the same cause is not logged again.
const quiet = time.Minute

// news keeps the log short where a connection fails again and again: what was
// logged already is so at level debug only.
type news struct {
	mu    sync.Mutex
	cause string    // of the last loss that was logged
	at    time.Time // of that
	told  bool      // whether the current loss was logged
	begun bool      // whether there was a connection
}

// lost logs why there is no connection.
func (n *news) lost(log zerolog.Logger, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	event := log.Debug()
	if cause := cause(err); cause != n.cause || time.Since(n.at) >= quiet {
		event = log.Warn()
		n.cause, n.at, n.told = cause, time.Now(), true
	}
	event.Err(err).Msg("no connection to the relay; trying again")
}

// back logs that there is one: the first, and whenever the loss was logged.
func (n *news) back(log zerolog.Logger) {
	n.mu.Lock()
	defer n.mu.Unlock()
	event := log.Debug()
	if n.told || !n.begun {
		event = log.Info()
	}
	n.told, n.begun = false, true
	event.Msg("connected to the relay")
}

// cause is the error without this side's port, which is another each time.
func cause(err error) string {
	text := err.Error()
	if op := new(net.OpError); errors.As(err, &op) && op.Source != nil {
		text = strings.ReplaceAll(text, op.Source.String(), "")
	}
	return text
}
