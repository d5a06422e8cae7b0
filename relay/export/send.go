package export

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"
)

// send sends a request until the collector accepts it, or refuses it for good.
// The error is ctx's.
func (e *Exporter) send(ctx context.Context, r request) error {
	body, err := encode(r)
	if err != nil { // texts are made valid before
		return err
	}
	retry := newRetry()
	for tries := 1; ; tries++ {
		rejected, err := e.post(ctx, body)
		var refused *refusal
		switch {
		case err == nil:
			e.metrics.batches.WithLabelValues("accepted").Inc()
			e.metrics.lines.Add(float64(r.lines) - float64(rejected.count))
			if rejected.count > 0 {
				e.metrics.refused.Add(float64(rejected.count))
				e.opts.Log.Error().Int64("lines", rejected.count).Str("why", rejected.why).Msg("the collector took a batch without some of its lines; they are left out")
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &refused) && refused.final():
			e.metrics.batches.WithLabelValues("refused").Inc()
			e.metrics.refused.Add(float64(r.lines))
			e.opts.Log.Error().Err(err).Int("lines", r.lines).Msg("the collector refused a batch of output; it is left out")
			return nil
		}
		e.metrics.batches.WithLabelValues("failed").Inc()
		pause := retry.NextBackOff()
		if refused != nil {
			pause = max(pause, refused.after)
		}
		log := e.opts.Log.Debug()
		if tries == 1 || tries%20 == 0 { // about every ten minutes
			log = e.opts.Log.Warn()
		}
		log.Err(err).Int("tries", tries).Msg("the collector does not take output; it waits in the store")
		if !wait(ctx, pause) {
			return ctx.Err()
		}
	}
}

// rejection is what a collector left out of what it accepted.
type rejection struct {
	count int64
	why   string
}

// refusal is an answer that accepts nothing.
type refusal struct {
	status int
	words  string
	after  time.Duration // that the collector wants to be left alone
}

func (r *refusal) Error() string { return fmt.Sprintf("answered %d: %s", r.status, r.words) }

// final reports whether the same request would be refused for ever.
func (r *refusal) final() bool {
	return r.status >= 400 && r.status < 500 && r.status != http.StatusRequestTimeout && r.status != http.StatusTooManyRequests
}

const (
	maxAnswer = 64 << 10 // bytes
	maxAfter  = 5 * time.Minute
	maxWords  = 500 // bytes of an answer in the log
)

// post makes one try.
func (e *Exporter) post(ctx context.Context, body []byte) (rejection, error) {
	ctx, done := linger(ctx)
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return rejection{}, err
	}
	for name, values := range e.opts.Headers {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "gzip")
	req.Header.Set("User-Agent", "trainrelay")
	resp, err := e.http.Do(req)
	if err != nil {
		return rejection{}, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		seconds, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31) // 0 where there is none
		return rejection{}, &refusal{resp.StatusCode, words(answer), min(time.Duration(seconds)*time.Second, maxAfter)}
	}
	if err != nil {
		return rejection{}, fmt.Errorf("its answer broke off: %w", err)
	}
	var accepted collectorpb.ExportLogsServiceResponse
	if err := proto.Unmarshal(answer, &accepted); err != nil {
		return rejection{}, nil // accepted all the same; some answer with other words
	}
	partial := accepted.GetPartialSuccess()
	return rejection{max(partial.GetRejectedLogRecords(), 0), words([]byte(partial.GetErrorMessage()))}, nil
}

// words makes an answer fit for a log.
func words(answer []byte) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, string(answer[:min(len(answer), maxWords)]))
	return strings.Join(strings.Fields(text), " ")
}

// encode is the compressed body.
func encode(r request) ([]byte, error) {
	plain, err := proto.Marshal(r.logs)
	if err != nil {
		return nil, fmt.Errorf("encode output: %w", err)
	}
	var b bytes.Buffer
	zip, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("encode output: %w", err)
	}
	if _, err := zip.Write(plain); err != nil {
		return nil, fmt.Errorf("encode output: %w", err)
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("encode output: %w", err)
	}
	return b.Bytes(), nil
}
