// Package otlp has no code but tests: they send the output of jobs from the
// real relay, as its program, to a real OpenTelemetry Collector, which is built
// from its Go modules and runs in the test's process. They need no cluster; an
// agent is played on a real connection.
package otlp
