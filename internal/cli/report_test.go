package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/jobspec"
	"github.com/trainrelay/trainrelay/protocol"
)

func TestExitCodes(t *testing.T) {
	_, badFile := jobspec.Parse("job.yml", []byte("comand: x\n"), jobspec.Options{})
	for _, tc := range []struct {
		name string
		err  error
		code int
		want string // in what is printed
	}{
		{"nothing", nil, exitOK, ""},
		{"anything", errors.New("disk full"), exitError, "error: disk full"},
		{"job file", badFile, exitUsage, "error: 4 problems in job.yml; nothing was submitted\n\n"},
		{"usage", usage{errors.New("two names"), "give one"}, exitUsage, "error: two names\n  hint: give one\n"},
		{"failed", ended{"a", protocol.Failed, protocol.NewReason(protocol.ExitCode, "exit code 3")}, exitFailed, "error: job a Failed: ExitCode: exit code 3"},
		{"failed and printed", errors.Join(ended{"a", protocol.Failed, nil}, nil), exitFailed, "error: job a Failed"},
		{"canceled", ended{"a", protocol.Canceled, nil}, exitCanceled, "error: job a Canceled"},
		{"not found", hinted{&client.APIError{Status: 404, Detail: "there is no job a"}, "look"}, exitNotFound, "error: there is no job a\n  hint: look\n"},
		{"refused", &client.APIError{Status: 422, Detail: "the job is not valid", Problems: []client.Problem{{Location: "body.compute", Message: "there is no compute x"}}}, exitError, "\n  body.compute: there is no compute x\n"},
		{"conflict", &client.APIError{Status: 409, Detail: "taken"}, exitError, "error: taken\n"},
		{"broken relay", &client.APIError{Status: 503, Title: "Service Unavailable", RequestID: "r1"}, exitError, "request r1"},
		{"token", &client.APIError{Status: 401, Detail: "no"}, exitDenied, "TRAINRELAY_CONFIG"},
		{"away", fmt.Errorf("submit: %w", &client.UnreachableError{URL: "https://x", Err: &net.OpError{Op: "dial", Err: errors.New("refused")}}), exitUnreachable, "hint: is it running"},
		{"another relay", &client.UnreachableError{URL: "https://x", Err: errors.New("unknown authority")}, exitUnreachable, "unknown authority\n"},
		{"interrupted", fmt.Errorf("submit: %w", context.Canceled), exitInterrupted, "interrupted: nothing more was done"},
		{"detached", detached{"a"}, exitInterrupted, "interrupted: job a goes on\n  follow it again: trainrelay job stream -n a\n  cancel it: trainrelay job cancel -n a"},
		{"hostile words", &client.APIError{Status: 409, Detail: "a\nb\x1b[2J"}, exitError, "error: a b�[2J\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, out, errs := testApp(false, nil)
			if code := a.report(tc.err); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if !strings.Contains(errs.String(), tc.want) || out.Len() > 0 {
				t.Errorf("stderr %q, stdout %q, want %q", errs, out, tc.want)
			}
		})
	}
}

// TestExitCodesAreListed: each code that can happen is in the users' table.
func TestExitCodesAreListed(t *testing.T) {
	listed := map[int]bool{}
	for _, e := range exitCodes {
		if listed[e.code] || e.meaning == "" {
			t.Errorf("%d is listed twice or says nothing", e.code)
		}
		listed[e.code] = true
	}
	for _, code := range []int{exitOK, exitError, exitUsage, exitFailed, exitCanceled, exitNotFound, exitUnreachable, exitDenied, exitInterrupted} {
		if !listed[code] {
			t.Errorf("%d is not listed", code)
		}
	}
}
