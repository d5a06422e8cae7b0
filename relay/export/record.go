package export

import (
	"strings"
	"time"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
)

// request is what is sent at once.
type request struct {
	logs  *collectorpb.ExportLogsServiceRequest
	lines int
}

// requests makes records of lines. A run may be many more of them than a
// collector takes at once, so there may be several requests.
func requests(runs []Run) (all []request) {
	var records []*logspb.LogRecord
	bytes := 0
	flush := func() {
		if len(records) > 0 {
			all = append(all, request{wrap(records), len(records)})
		}
		records, bytes = nil, 0
	}
	for _, run := range runs {
		for _, line := range run.Lines {
			records = append(records, record(line, run.Taken))
			if bytes += len(line.Text); len(records) >= maxLines || bytes >= maxBytes {
				flush()
			}
		}
	}
	flush()
	return all
}

func wrap(records []*logspb.LogRecord) *collectorpb.ExportLogsServiceRequest {
	return &collectorpb.ExportLogsServiceRequest{ResourceLogs: []*logspb.ResourceLogs{{
		Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{text("service.name", "trainrelay")}},
		ScopeLogs: []*logspb.ScopeLogs{{
			Scope:      &commonpb.InstrumentationScope{Name: "trainrelay"},
			LogRecords: records,
		}},
	}}}
}

// record is a line as OTLP has it. The severity is not set: nobody knows it.
func record(line Line, taken time.Time) *logspb.LogRecord {
	r := &logspb.LogRecord{
		TimeUnixNano: nanoseconds(line.Time), ObservedTimeUnixNano: nanoseconds(taken),
		Body: value(string(line.Text)),
		Attributes: []*commonpb.KeyValue{
			text("trainrelay.job", line.Job), number("trainrelay.attempt", line.Attempt), number("trainrelay.rank", line.Rank),
		},
	}
	if line.Cluster != "" {
		r.Attributes = append(r.Attributes, text("k8s.cluster.name", line.Cluster))
	}
	if line.Gap != "" {
		r.Body = value("output lost: " + line.Gap)
		r.Attributes = append(r.Attributes, &commonpb.KeyValue{Key: "trainrelay.gap", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: true}}})
	}
	return r
}

func nanoseconds(t time.Time) uint64 {
	if t.Before(time.Unix(0, 0)) {
		return 0 // which means unknown
	}
	return uint64(t.UnixNano())
}

// value is a string, which has to be UTF-8.
func value(s string) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: strings.ToValidUTF8(s, "�")}}
}

func text(key, s string) *commonpb.KeyValue { return &commonpb.KeyValue{Key: key, Value: value(s)} }

func number(key string, n int) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: int64(n)}}}
}
