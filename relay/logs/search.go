package logs

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/protocol"
)

// ErrCursor is a place in a search that no page has named.
var ErrCursor = errors.New("the cursor is not of a page of this search")

// Query selects lines; an empty field selects all.
type Query struct {
	Grep         *regexp.Regexp // matches the line
	Job          string
	Since, Until time.Time // of the lines' times, inclusive
	Limit        int       // lines and marks of a page; 0 for 1000
	// Tail selects the newest lines instead of the oldest, on one page.
	Tail  bool
	After string // the Next of the page before
}

// Page is a part of what a search finds, in the order of its arrival. A page of
// a rare selection may be short, even empty, and have a next one.
type Page struct {
	Lines []Line
	Next  string // where the next page begins; empty where there is none
	// Cut: older lines than these were left out, of those that Tail selects,
	// for the size of the answer or the time of looking.
	Cut bool
}

const (
	defaultLimit = 1000
	// maxSearches run at a time; others wait.
	maxSearches = 4
	// maxPage bounds the text of a page, in bytes.
	maxPage = 4 << 20
	// searchTime is how long chunks are looked at for a page: clients wait for a
	// minute.
	searchTime = 10 * time.Second
	// firstTail is how many of the newest chunks are looked at first for the
	// newest lines; each further look goes back tailGrowth times as far.
	firstTail  = 4096
	tailGrowth = 8
	// skew is how far a node's clock may be ahead of the relay's for Since to be
	// exact; an agent complains of a minute.
	skew = 10 * time.Minute
)

// Search finds lines of output that is kept. It reads the stream on, never all
// of it for a page, and holds no more than a page; it ends with ctx. Lines are
// told once each over all pages, those that arrive while somebody turns pages
// included. Where output was lost there is a mark, whether or not it would have
// been selected.
func (s *Store) Search(ctx context.Context, q Query) (Page, error) {
	page, err := s.search(ctx, q)
	if err != nil && !errors.Is(err, ErrCursor) {
		err = fmt.Errorf("search the output: %w", err)
	}
	return page, err
}

func (s *Store) search(ctx context.Context, q Query) (Page, error) {
	if q.Job != "" {
		if err := protocol.CheckName(q.Job); err != nil { // it becomes a subject
			return Page{}, err
		}
	}
	if q.Limit == 0 {
		q.Limit = defaultLimit
	}
	var from cursor
	if q.After != "" {
		var err error
		if from, err = parseCursor(q.After); err != nil {
			return Page{}, err
		}
	}
	select {
	case s.searches <- struct{}{}:
		defer func() { <-s.searches }()
	case <-ctx.Done():
		return Page{}, ctx.Err()
	}
	info, err := s.stream.Info(ctx)
	if err != nil {
		return Page{}, err
	}
	if q.Tail {
		return s.tail(ctx, q, info.State)
	}
	f := &finder{q: q, from: from, until: time.Now().Add(s.searchTime)}
	err = s.read(ctx, f, s.start(q, from, info.State))
	return f.page, err
}

// start is where a search begins.
func (s *Store) start(q Query, from cursor, state jetstream.StreamState) jetstream.OrderedConsumerConfig {
	config := jetstream.OrderedConsumerConfig{FilterSubjects: []string{prefix + "*.*.*"}}
	if q.Job != "" {
		config.FilterSubjects = []string{prefix + q.Job + ".*.*"}
	}
	begin := q.Since.Add(-skew)
	switch {
	case from.low > 0:
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from.low
	case !q.Since.IsZero() && begin.After(state.FirstTime):
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &begin
	}
	return config
}

// read lets the finder see chunks until it has a page.
func (s *Store) read(ctx context.Context, f *finder, config jetstream.OrderedConsumerConfig) error {
	reached := map[source]uint64{}
	after := uint64(0)
	if config.OptStartSeq > 0 {
		after = config.OptStartSeq - 1
	}
	full := false
	err := s.each(ctx, config, func(k kept) bool {
		if f.first.seq == 0 {
			f.first = k
			if config.OptStartTime != nil {
				after = k.seq - 1 // what was before was not asked for
			}
		}
		_, seen := reached[k.source]
		gap := k.missing(after, reached)
		if s.opts.Analyzed != nil && !s.opts.Analyzed(k.cluster) {
			k.text, gap = nil, ""
		}
		full = !f.take(&k, gap, !seen && k.behind <= after && f.from.low == 0)
		return !full
	})
	if err == nil && !full {
		f.lines.end(f.visit)
	}
	return err
}

// finder makes a page of chunks.
type finder struct {
	q    Query
	from cursor
	page Page

	lines joiner
	first kept      // the first chunk that was read
	at    cursor    // of the next line
	bytes int       // on the page
	until time.Time // when to stop looking
	late  bool      // it stopped
}

// take looks at a chunk and reports whether to go on.
func (f *finder) take(k *kept, gap string, headless bool) bool {
	if f.from.gap && gap == "" && k.seq == f.from.seq {
		gap = dropped
	}
	f.at = cursor{low: f.lines.low(k.seq), seq: k.seq, gap: gap == dropped}
	if !f.lines.take(k, gap, headless, f.visit) {
		return false
	}
	if k.pending == 0 || time.Now().Before(f.until) {
		return true
	}
	f.late = true
	f.page.Next = cursor{low: f.lines.low(k.seq + 1), seq: k.seq + 1}.String()
	return false
}

// visit takes a line that is selected, and reports whether to go on.
func (f *finder) visit(line Line) bool {
	at := f.at
	f.at.line++
	if at.before(f.from) || !f.selects(&line) {
		return true
	}
	if f.q.Tail {
		f.push(line)
		return true
	}
	if len(f.page.Lines) == f.q.Limit || f.bytes > maxPage {
		f.page.Next = at.String()
		return false
	}
	f.keep(line)
	return true
}

func (f *finder) keep(line Line) {
	line.Text = slices.Clone(line.Text) // not the whole chunk
	f.page.Lines = append(f.page.Lines, line)
	f.bytes += len(line.Text)
}

// push keeps a line, and of them all the newest.
func (f *finder) push(line Line) {
	f.keep(line)
	for len(f.page.Lines) > f.q.Limit || f.bytes > maxPage {
		f.page.Cut = f.page.Cut || len(f.page.Lines) <= f.q.Limit
		f.bytes -= len(f.page.Lines[0].Text)
		f.page.Lines = f.page.Lines[1:]
	}
}

func (f *finder) selects(line *Line) bool {
	if !f.q.Since.IsZero() && line.Time.Before(f.q.Since) || !f.q.Until.IsZero() && line.Time.After(f.q.Until) {
		return false
	}
	return line.Gap != "" || f.q.Grep == nil || f.q.Grep.Match(line.Text)
}

// tail finds the newest lines: it looks at the newest chunks, and again at more
// of them until there are enough lines.
func (s *Store) tail(ctx context.Context, q Query, state jetstream.StreamState) (Page, error) {
	until := time.Now().Add(s.searchTime)
	var newer Page
	for back := uint64(firstTail); ; back *= tailGrowth {
		from := state.FirstSeq
		if state.LastSeq > back {
			from = max(from, state.LastSeq-back)
		}
		f := &finder{q: q, until: until}
		whole := from == state.FirstSeq
		config := s.start(q, cursor{low: from}, state)
		if whole {
			config = s.start(q, cursor{}, state)
		}
		if err := s.read(ctx, f, config); err != nil {
			return Page{}, err
		}
		if f.late {
			newer.Cut = true
			return newer, nil
		}
		older := !q.Since.IsZero() && f.first.seq > 0 && f.first.stored.Before(q.Since.Add(-skew))
		if len(f.page.Lines) == q.Limit || f.page.Cut || whole || older {
			return f.page, nil
		}
		newer = f.page
	}
}
