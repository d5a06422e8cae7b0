package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/trainrelay/trainrelay/relay/export"
)

// onward are the flags of "trainrelay serve" that name where output is sent on.
type onward struct {
	Endpoint    string `help:"Where the output of jobs is sent on, as OTLP logs over HTTP, such as an OpenTelemetry Collector." placeholder:"https://HOST:4318"`
	HeadersFile string `help:"File of headers to send along, NAME=VALUE on a line each, such as Authorization." placeholder:"FILE"`
	CAFile      string `name:"ca-file" help:"Certificates in PEM to trust for it, instead of the system's." placeholder:"FILE"`
}

// target is where output is sent on; nil for nowhere.
func (o onward) target() (*export.Target, error) {
	if o.Endpoint == "" {
		if o.HeadersFile != "" || o.CAFile != "" {
			return nil, errors.New("--otlp-headers-file and --otlp-ca-file are of use with --otlp-endpoint only")
		}
		return nil, nil
	}
	config, err := trust("--otlp-ca-file", o.CAFile)
	if err != nil {
		return nil, err
	}
	target := &export.Target{Endpoint: o.Endpoint, TLS: config}
	if o.HeadersFile == "" {
		return target, nil
	}
	text, err := os.ReadFile(o.HeadersFile)
	if err != nil {
		return nil, fmt.Errorf("--otlp-headers-file: %w", err)
	}
	if target.Headers, err = parseHeaders(string(text)); err != nil {
		return nil, fmt.Errorf("--otlp-headers-file: %s: %w", o.HeadersFile, err)
	}
	return target, nil
}

// parseHeaders reads NAME=VALUE lines. It says which line is wrong and never
// what is in it: values are secrets.
func parseHeaders(text string) (http.Header, error) {
	headers := http.Header{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !found || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("line %d is not a header such as Authorization=Bearer …", n)
		}
		headers.Add(name, value)
	}
	return headers, nil
}
