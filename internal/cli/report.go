package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/alecthomas/kong"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/jobspec"
	"github.com/trainrelay/trainrelay/protocol"
)

// Exit codes.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitFailed      = 3
	exitCanceled    = 4
	exitNotFound    = 5
	exitUnreachable = 6
	exitDenied      = 7
	exitInterrupted = 130
)

// exitCodes is the table of them that users are shown.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitOK, "done; of a followed job: Completed"},
	{exitError, "the relay refused, or something else went wrong"},
	{exitUsage, "the command line, the configuration or the job file is wrong; nothing was submitted"},
	{exitFailed, "the followed job Failed"},
	{exitCanceled, "the followed job was Canceled"},
	{exitNotFound, "there is no such job, compute, cluster or token"},
	{exitUnreachable, "the relay cannot be reached"},
	{exitDenied, "the relay does not accept the token, or its role does not suffice"},
	{exitInterrupted, "interrupted, by Ctrl-C or SIGTERM; a followed job goes on"},
}

// usage is an error of who typed the command.
type usage struct {
	error
	hint string
}

func (u usage) Unwrap() error { return u.error }

// hinted is an error with what to do next.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// ended is a followed job that did not complete.
type ended struct {
	name   string
	state  protocol.State
	reason *protocol.Reason
}

func (e ended) Error() string {
	message := fmt.Sprintf("job %s %s", e.name, e.state)
	if e.reason != nil {
		message += ": " + e.reason.String()
	}
	return message
}

// detached is the end of following a job that goes on.
type detached struct{ name string }

func (d detached) Error() string {
	return fmt.Sprintf("job %s goes on", d.name)
}

// report prints an error and returns its exit code: the one place for both.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	code, what, where, hint := a.explain(err)
	label, red, reset := "error:", "\x1b[31m", "\x1b[0m"
	if code == exitInterrupted {
		label = "interrupted:"
	}
	if !a.colour(a.io.Err) {
		red, reset = "", ""
	}
	a.notef("%s%s%s %s", red, label, reset, what)
	for _, line := range where {
		a.notef("  %s", line)
	}
	if hint != "" {
		a.notef("  hint: %s", hint)
	}
	return code
}

// explain says of an error what happened, where, and what to do.
func (a *app) explain(err error) (code int, what string, where []string, hint string) {
	code, what = exitError, oneLine(err.Error())
	var (
		file        *jobspec.Error
		parse       *kong.ParseError
		wrong       usage
		next        hinted
		end         ended
		left        detached
		api         *client.APIError
		unreachable *client.UnreachableError
	)
	if errors.As(err, &next) {
		hint = next.hint
	}
	switch {
	case errors.As(err, &file):
		n := len(file.Problems) + file.More
		what = fmt.Sprintf("%s in %s; nothing was submitted\n\n%s", count(n, "problem"), file.Problems[0].File, file.Render(a.colour(a.io.Err)))
		return exitUsage, what, nil, ""
	case errors.As(err, &parse):
		return exitUsage, what, nil, "add --help to see what is possible"
	case errors.As(err, &wrong):
		return exitUsage, what, nil, wrong.hint
	case errors.As(err, &end):
		code = exitFailed
		if end.state == protocol.Canceled {
			code = exitCanceled
		}
		return code, what, nil, hint
	case errors.As(err, &left):
		return exitInterrupted, what, []string{"follow it again: trainrelay job stream -n " + left.name, "cancel it: trainrelay job cancel -n " + left.name}, ""
	case errors.Is(err, context.Canceled):
		return exitInterrupted, "nothing more was done", nil, hint
	case errors.As(err, &unreachable):
		if dialed := (*net.OpError)(nil); hint == "" && errors.As(err, &dialed) {
			hint = "is it running, and is the url in the client configuration right? `trainrelay serve` runs it"
		}
		return exitUnreachable, what, nil, hint
	case errors.As(err, &api):
		return a.explainAPI(api, hint)
	}
	return code, what, nil, hint
}

func (a *app) explainAPI(api *client.APIError, hint string) (int, string, []string, string) {
	what := oneLine(api.Detail)
	if what == "" {
		what = oneLine(api.Title)
	}
	var where []string
	for _, p := range api.Problems {
		line := oneLine(p.Message)
		if p.Location != "" {
			line = oneLine(p.Location) + ": " + line
		}
		where = append(where, line)
	}
	switch api.Status {
	case http.StatusUnauthorized:
		return exitDenied, what, where, "the token is in the client configuration (--config, TRAINRELAY_CONFIG); `trainrelay login` puts another one there"
	case http.StatusForbidden:
		return exitDenied, what, where, "`trainrelay whoami` shows whose token is used; --config names another client configuration"
	case http.StatusNotFound:
		return exitNotFound, what, where, hint
	}
	if api.Status >= 500 && api.RequestID != "" {
		where = append(where, "request "+oneLine(api.RequestID)+" in the relay's log")
	}
	return exitError, what, where, hint
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
