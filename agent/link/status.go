package link

import (
	"errors"
	"fmt"
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

// Status is the state of the link, for health checks and for people.
type Status struct {
	Leading   bool
	Connected bool      // as last told through Connection
	LastSync  time.Time // when the last answered sync was sent; zero before the first
	LastError string    // what is being waited for; empty when nothing is
	Problem   string    // what keeps the cluster out of step with its API server
	Refusing  string    // why the cluster takes no work though it is in step
	Term      uint64    // of the current or last session; 0 before the first answer
	Waiting   int       // attempts of which something waits to be told
	Breach    string    // why the last answer was not believed; empty when it was
	Breaches  int       // answers that were not believed, since the process began
	Trust     string    // why what the relay asks to trust does not count yet; empty when it does
}

// Status returns the current state.
func (l *Link) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	status := l.status
	status.Waiting = l.outbox.len()
	return status
}

// setLeading notes the begin or the end of leading.
func (l *Link) setLeading(leading bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status.Leading = leading
	if !leading {
		l.status.LastError, l.status.Problem, l.status.Refusing, l.status.Breach, l.status.Trust = "", "", "", "", ""
	}
}

// synced notes an answered sync.
func (l *Link) synced(sent time.Time) {
	l.mu.Lock()
	waited := len(l.waitsFor) > 0
	l.status.LastSync, l.status.LastError = sent, ""
	clear(l.waitsFor)
	l.mu.Unlock()
	if waited {
		l.log.Info().Msg("in sync with the relay again")
	}
}

// failed notes what is being waited for, and logs it where it is news; a breach
// has been logged.
func (l *Link) failed(what string, err error) {
	l.mu.Lock()
	l.status.LastError = fmt.Sprintf("%s: %v", what, err)
	news := l.waitsFor[what] != err.Error()
	l.waitsFor[what] = err.Error()
	l.mu.Unlock()
	event := l.log.Debug()
	if _, told := errors.AsType[*protocol.Breach](err); news && !told {
		event = l.log.Warn()
	}
	event.Err(err).Msgf("%s: not through to the relay; trying again until it is", what)
}

// outOfStep notes what keeps the cluster from taking work, nil for nothing.
func (l *Link) outOfStep(problem error) {
	text := ""
	if problem != nil {
		text = problem.Error()
	}
	l.mu.Lock()
	news := l.status.Problem != text
	l.status.Problem = text
	l.mu.Unlock()
	switch {
	case news && problem != nil:
		l.log.Warn().Err(problem).Msg("out of step with the Kubernetes API; no work is taken until it is back")
	case news:
		l.log.Info().Msg("in step with the Kubernetes API")
	}
}

// refusing notes why the cluster refuses all work, nil where it does not.
func (l *Link) refusing(why error) {
	text := ""
	if why != nil {
		text = why.Error()
	}
	l.mu.Lock()
	news := l.status.Refusing != text
	l.status.Refusing = text
	l.mu.Unlock()
	switch {
	case news && why != nil:
		l.log.Error().Err(why).Msg("no work is taken")
	case news:
		l.log.Info().Msg("work is taken again")
	}
}
