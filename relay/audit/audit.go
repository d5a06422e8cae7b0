// Package audit keeps who changed what: a stream that can only be appended to,
// bounded by bytes and age, its oldest entries making place for the newest. While
// Run runs, that they go before their time is a warning in the relay's log.
//
// It guarantees that an entry is on disk when Append returns, and that no
// entry can be altered, deleted or purged by way of the broker's API; whoever
// owns the relay's machine owns its files, too. Texts are cut to what an entry
// may hold, so that nobody can fill the log by a few of them. When the store
// cannot write, Append returns its error, and the caller must not make the
// change that it was about to write down.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Options of a log.
type Options struct {
	JetStream jetstream.JetStream

	MaxBytes int64         // 0 for 1 GiB
	MaxAge   time.Duration // 0 for 400 days
	Now      func() time.Time

	Log        zerolog.Logger
	Registerer prometheus.Registerer
}

// Entry is one change, or what was refused.
type Entry struct {
	Time   time.Time `json:"time"`
	Actor  string    `json:"actor"`          // a token's name, or agent:CLUSTER; empty for a stranger
	Role   string    `json:"role,omitempty"` // of the token
	Action string    `json:"action"`         // such as token.create
	Target string    `json:"target,omitempty"`
	Detail string    `json:"detail,omitempty"`
	Remote string    `json:"remote,omitempty"` // the address that it came from
}

// Log is the audit log.
type Log struct {
	opts   Options
	stream jetstream.Stream
	watch  watch
}

const (
	streamName = "AUDIT"
	prefix     = "audit."
)

// Bounds of an entry's texts, in bytes.
const (
	maxName   = 256
	maxDetail = 2048
)

// Open makes the stream, if it is missing.
func Open(ctx context.Context, opts Options) (*Log, error) {
	if opts.MaxBytes == 0 {
		opts.MaxBytes = 1 << 30
	}
	if opts.MaxAge == 0 {
		opts.MaxAge = 400 * 24 * time.Hour
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	stream, err := opts.JetStream.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        streamName,
		Subjects:    []string{prefix + ">"},
		MaxBytes:    opts.MaxBytes,
		MaxAge:      opts.MaxAge,
		Discard:     jetstream.DiscardOld,
		DenyDelete:  true,
		DenyPurge:   true,
		AllowDirect: true,
	})
	if err != nil {
		return nil, fmt.Errorf("open the stream %s: %w", streamName, err)
	}
	return &Log{opts: opts, stream: stream, watch: newWatch(opts.Registerer)}, nil
}

// action is dotted words; it is part of a subject.
var action = regexp.MustCompile(`^[a-z_]+(\.[a-z_]+)*$`)

// Append writes an entry; its time is now unless it has one.
func (l *Log) Append(ctx context.Context, e Entry) error {
	if !action.MatchString(e.Action) {
		return fmt.Errorf("audit: %q is not an action such as job.submit", e.Action)
	}
	if e.Time.IsZero() {
		e.Time = l.opts.Now()
	}
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	for _, text := range []*string{&e.Actor, &e.Role, &e.Target, &e.Remote} {
		*text = cut(*text, maxName)
	}
	e.Detail = cut(e.Detail, maxDetail)
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("audit: %s: %w", e.Action, err)
	}
	if _, err := l.opts.JetStream.Publish(ctx, prefix+e.Action, data); err != nil {
		return fmt.Errorf("audit: write %s: %w", e.Action, err)
	}
	return nil
}

// cut shortens a text, at the border of a character. An entry is one line and
// moves no terminal, whoever reads it and with what.
func cut(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return '�'
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
}

// Query selects entries; an empty field selects all.
type Query struct {
	Since  time.Time
	Actor  string
	Action string // may end in ".*": token.* is all of tokens
	Limit  int    // 0 for 100
	Before uint64 // go on below this place, the next of a page before
}

// maxScan bounds the entries that one page looks at.
const maxScan = 20_000

// List returns a page of entries, newest first. next is where the next page
// goes on; 0 where there is none. A page of a rare selection may be short, even
// empty, and have a next.
func (l *Log) List(ctx context.Context, q Query) (entries []Entry, next uint64, _ error) {
	if q.Limit == 0 {
		q.Limit = 100
	}
	info, err := l.stream.Info(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("audit: %w", err)
	}
	seq := info.State.LastSeq
	if q.Before > 0 {
		seq = min(seq, q.Before-1)
	}
	for scanned := 0; seq > 0 && seq >= info.State.FirstSeq; seq-- {
		if len(entries) == q.Limit || scanned == maxScan {
			return entries, seq + 1, nil
		}
		scanned++
		msg, err := l.stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break // the oldest made place just now
		}
		if err != nil {
			return nil, 0, fmt.Errorf("audit: read entry %d: %w", seq, err)
		}
		if msg.Time.Before(q.Since) {
			break // so are all below
		}
		if !q.fits(strings.TrimPrefix(msg.Subject, prefix)) {
			continue
		}
		var e Entry
		if err := json.Unmarshal(msg.Data, &e); err != nil {
			return nil, 0, fmt.Errorf("audit: read entry %d: %w", seq, err)
		}
		if q.Actor == "" || q.Actor == e.Actor {
			entries = append(entries, e)
		}
	}
	return entries, 0, nil
}

// fits reports whether the query selects the action.
func (q Query) fits(action string) bool {
	if family, ok := strings.CutSuffix(q.Action, "*"); ok {
		return strings.HasPrefix(action, family)
	}
	return q.Action == "" || q.Action == action
}
