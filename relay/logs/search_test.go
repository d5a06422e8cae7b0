package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/trainrelay/trainrelay/protocol"
)

// feed appends text as one rank's next chunk, written at a time.
func feed(t *testing.T, s *Store, job string, rank int, written time.Time, text string, eof bool) {
	t.Helper()
	ref := protocol.Ref{Job: job, Attempt: 1}
	ask, err := s.Append(t.Context(), "c", &protocol.LogChunk{Ref: ref, Rank: rank})
	if err != nil {
		t.Fatal(err)
	}
	to := protocol.LogPosition{Time: written, Lines: ask.At.Lines + 1}
	reply, err := s.Append(t.Context(), "c", &protocol.LogChunk{Ref: ref, Rank: rank, From: ask.At, To: to, Data: []byte(text), EOF: eof})
	if err != nil || !reply.Taken {
		t.Fatalf("%q is not taken: %+v, %v", text, reply, err)
	}
}

// find returns what a search finds on all pages, one line each.
func find(t *testing.T, s *Store, q Query) (found []string) {
	t.Helper()
	for {
		page, err := s.Search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range page.Lines {
			text := fmt.Sprintf("%s/%d %s", line.Job, line.Rank, line.Text)
			if line.Gap != "" {
				text = fmt.Sprintf("%s/%d [%s]", line.Job, line.Rank, line.Gap)
			}
			found = append(found, text)
		}
		if q.After = page.Next; q.After == "" {
			return found
		}
	}
}

func (s *Store) state(t *testing.T) jetstream.StreamState {
	t.Helper()
	info, err := s.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State
}

func TestSearch(t *testing.T) {
	s := open(t, Options{})
	feed(t, s, "a", 0, epoch, "one\nTwo\n", false)
	feed(t, s, "b", 1, epoch.Add(time.Minute), "two\n", false)
	feed(t, s, "a", 0, epoch.Add(time.Hour), "three\n\n", false)
	feed(t, s, "a", 1, epoch.Add(time.Hour), "no end", true)
	all := []string{"a/0 one", "a/0 Two", "b/1 two", "a/0 three", "a/0 ", "a/1 no end"}
	for _, test := range []struct {
		name string
		q    Query
		want []string
	}{
		{"all", Query{}, all},
		{"in pages", Query{Limit: 1}, all},
		{"in pages of two", Query{Limit: 2}, all},
		{"grep", Query{Grep: regexp.MustCompile(`(?i)^two$`)}, []string{"a/0 Two", "b/1 two"}},
		{"grep in pages", Query{Grep: regexp.MustCompile(`^t|e$`), Limit: 1}, []string{"a/0 one", "b/1 two", "a/0 three"}},
		{"job", Query{Job: "b"}, []string{"b/1 two"}},
		{"no such job", Query{Job: "none"}, nil},
		{"since", Query{Since: epoch.Add(time.Minute)}, all[2:]},
		{"until", Query{Until: epoch.Add(time.Minute)}, all[:3]},
		{"later", Query{Since: epoch.Add(2 * time.Hour)}, nil},
		{"tail", Query{Tail: true, Limit: 2}, all[4:]},
		{"tail of a job", Query{Tail: true, Limit: 2, Job: "b"}, []string{"b/1 two"}},
		{"tail of a selection", Query{Tail: true, Limit: 1, Grep: regexp.MustCompile("o")}, []string{"a/1 no end"}},
	} {
		if diff := cmp.Diff(test.want, find(t, s, test.q)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
	page, err := s.Search(t.Context(), Query{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	want := Line{Time: epoch, Cluster: "c", Job: "a", Attempt: 1, Text: []byte("one")}
	if diff := cmp.Diff([]Line{want}, page.Lines); diff != "" {
		t.Error(diff)
	}
	if n := s.state(t).Consumers; n > 0 {
		t.Errorf("searches left %d consumers in the server", n)
	}
	for _, q := range []Query{{Job: "no*.>"}, {After: "1"}, {After: "2.1.0"}, {After: "1.1.-1"}} {
		if _, err := s.Search(t.Context(), q); err == nil || q.After != "" && !errors.Is(err, ErrCursor) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// TestSearchJoins: a line that came in several chunks is one line, also where a
// page ends between them, and other ranks' lines between do not matter.
func TestSearchJoins(t *testing.T) {
	s := open(t, Options{})
	feed(t, s, "a", 0, epoch, "one\nbegin", false)
	feed(t, s, "a", 1, epoch, "x\ny\n", false)
	feed(t, s, "a", 0, epoch, " middle", false)
	feed(t, s, "a", 2, epoch, "unfinished", false)
	feed(t, s, "a", 0, epoch, " end\ntwo\n", false)
	feed(t, s, "a", 1, epoch, "z\n", false)
	want := []string{"a/0 one", "a/1 x", "a/1 y", "a/0 begin middle end", "a/0 two", "a/1 z", "a/2 unfinished"}
	for limit := range len(want) + 1 {
		if diff := cmp.Diff(want, find(t, s, Query{Limit: limit})); diff != "" {
			t.Errorf("pages of %d: %s", limit, diff)
		}
	}
	got := find(t, s, Query{Grep: regexp.MustCompile("begin middle end")})
	if diff := cmp.Diff(want[3:4], got); diff != "" {
		t.Error(diff)
	}
}

// TestSearchSinceAmidALine: what began before is not told by half.
func TestSearchSinceAmidALine(t *testing.T) {
	s := open(t, Options{})
	now := time.Now()
	feed(t, s, "a", 0, now.Add(-time.Hour), "old\nbegin", false)
	feed(t, s, "a", 0, now, " end\nnew\n", false)
	f := &finder{q: Query{Limit: 10}, until: time.Now().Add(time.Minute)}
	if err := s.read(t.Context(), f, s.start(Query{}, cursor{low: 2}, s.state(t))); err != nil {
		t.Fatal(err)
	}
	if len(f.page.Lines) != 1 || string(f.page.Lines[0].Text) != "new" {
		t.Errorf("%+v", f.page.Lines)
	}
	if diff := cmp.Diff([]string{"a/0 new"}, find(t, s, Query{Since: now})); diff != "" {
		t.Error(diff)
	}
}

// TestSearchLongLines: lines beyond the bound are cut, and nothing of them is
// lost, in whatever pieces they come and wherever pages end.
func TestSearchLongLines(t *testing.T) {
	s := open(t, Options{})
	long := strings.Repeat("0123456789abcdef", 2*maxLine/16) + "rest"
	for text := "head\n" + long + "\n"; text != ""; {
		n := min(16<<10, len(text))
		feed(t, s, "a", 0, epoch, text[:n], false)
		text = text[n:]
	}
	feed(t, s, "a", 0, epoch, "next\n", false)
	want := []string{"a/0 head", "a/0 " + long[:maxLine], "a/0 " + long[maxLine:2*maxLine], "a/0 rest", "a/0 next"}
	for limit := range 4 {
		if diff := cmp.Diff(want, find(t, s, Query{Limit: limit})); diff != "" {
			t.Errorf("pages of %d: %s", limit, diff)
		}
	}
}

// TestSearchTellsGaps: what the agent lost and what the store dropped.
func TestSearchTellsGaps(t *testing.T) {
	s := open(t, Options{MaxChunks: 3})
	for n := range 5 {
		appendTo(t, s, chunk(0, n, n+1))
	}
	lost := chunk(0, 5, 6)
	lost.Gap, lost.To = "rotated", at(9)
	appendTo(t, s, lost)
	want := []string{"job/0 [" + dropped + "]", "job/0 line 3", "job/0 line 4", "job/0 [rotated]", "job/0 line 5"}
	for limit := range 3 {
		if diff := cmp.Diff(want, find(t, s, Query{Limit: limit})); diff != "" {
			t.Errorf("pages of %d: %s", limit, diff)
		}
	}
	if diff := cmp.Diff([]string{want[0], want[3], want[4]}, find(t, s, Query{Grep: regexp.MustCompile("5")})); diff != "" {
		t.Error(diff)
	}
	// A page that has been turned to when what it begins with is gone.
	page, err := s.Search(t.Context(), Query{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendTo(t, s, chunk(0, 9, 10))
	if diff := cmp.Diff([]string{want[0], "job/0 line 9"}, find(t, s, Query{After: page.Next})); diff != "" {
		t.Error(diff)
	}
}

// TestSearchHidesClusters that are not analyzed.
func TestSearchHidesClusters(t *testing.T) {
	analyzed := false
	s := open(t, Options{Analyzed: func(cluster string) bool { return analyzed && cluster == "c" }})
	appendTo(t, s, chunk(0, 0, 1))
	if found := find(t, s, Query{}); found != nil {
		t.Errorf("found %q", found)
	}
	analyzed = true
	if diff := cmp.Diff([]string{"job/0 line 0"}, find(t, s, Query{})); diff != "" {
		t.Error(diff)
	}
}

// TestSearchIsBounded: pages end by their size and by what was looked at.
func TestSearchIsBounded(t *testing.T) {
	s := open(t, Options{})
	text := strings.Repeat("x", 1023) + "\n"
	for n := range 80 {
		feed(t, s, "a", 0, epoch.Add(time.Duration(n)), strings.Repeat(text, 64), false)
	}
	page, err := s.Search(t.Context(), Query{Limit: 10_000})
	if err != nil || page.Next == "" || len(page.Lines) > maxPage/1023+2 {
		t.Errorf("%d lines, next %q, %v", len(page.Lines), page.Next, err)
	}
	if n := len(find(t, s, Query{Limit: 10_000})); n != 80*64 {
		t.Errorf("%d lines in all", n)
	}
	page, err = s.Search(t.Context(), Query{Tail: true, Limit: 10_000})
	if err != nil || !page.Cut || len(page.Lines) > maxPage/1023+1 {
		t.Errorf("%d of the newest lines, cut %v, %v", len(page.Lines), page.Cut, err)
	}
	s.searchTime = 0
	page, err = s.Search(t.Context(), Query{Grep: regexp.MustCompile("no")})
	if err != nil || page.Next != "2.2.0" || page.Lines != nil {
		t.Errorf("%+v, %v", page, err)
	}
	if n := len(find(t, s, Query{Limit: 10_000})); n != 80*64 {
		t.Errorf("%d lines in all", n)
	}
	page, err = s.Search(t.Context(), Query{Tail: true, Limit: 10_000})
	if err != nil || !page.Cut {
		t.Errorf("%+v, %v", page, err)
	}
}

// TestSearchTailLooksBack beyond the newest chunks.
func TestSearchTailLooksBack(t *testing.T) {
	s := open(t, Options{})
	feed(t, s, "quiet", 0, epoch, "needle\n", false)
	for n := range firstTail + 10 {
		if _, err := s.opts.JetStream.PublishMsgAsync(message("c", "log.loud.1.0", position{behind: uint64(max(n-1, 0))}, &protocol.LogChunk{To: at(n), Data: []byte("hay\n")})); err != nil {
			t.Fatal(err)
		}
	}
	<-s.opts.JetStream.PublishAsyncComplete()
	if diff := cmp.Diff([]string{"quiet/0 needle"}, find(t, s, Query{Tail: true, Limit: 3, Job: "quiet"})); diff != "" {
		t.Error(diff)
	}
	if got := find(t, s, Query{Tail: true, Limit: 1, Job: "loud"}); len(got) != 1 || got[0] != "loud/0 hay" {
		t.Errorf("%q", got)
	}
}

func TestSearchEndsWithItsContext(t *testing.T) {
	s := open(t, Options{})
	appendTo(t, s, chunk(0, 0, 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Search(ctx, Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for range maxSearches {
		s.searches <- struct{}{}
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Search(ctx, Query{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beside as many as may run: %v", err)
	}
}

// TestLinesAreThoseOfTheText: however output is cut into chunks and pages, the
// lines are those of each rank's text.
func TestLinesAreThoseOfTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var chunks []kept
		texts := map[int]*bytes.Buffer{0: {}, 1: {}, 2: {}}
		amid := map[int]bool{}
		for seq := range rapid.IntRange(1, 30).Draw(t, "chunks") {
			rank := rapid.IntRange(0, 2).Draw(t, "rank")
			text := rapid.StringMatching(`([ab]{0,3}\n?){0,4}`).Draw(t, "text")
			chunks = append(chunks, kept{source: source{"j", 1, rank}, seq: uint64(seq + 1), text: []byte(text), amid: amid[rank]})
			texts[rank].WriteString(text)
			if text != "" {
				amid[rank] = !strings.HasSuffix(text, "\n")
			}
		}
		// Pages: each begins where the one before has ended.
		got := map[int]string{}
		for from := (cursor{low: 1, seq: 1}); ; {
			f := &finder{q: Query{Limit: rapid.IntRange(1, 5).Draw(t, "limit")}, from: from, until: time.Now().Add(time.Minute)}
			whole := true
			for _, k := range chunks[from.low-1:] {
				if whole = f.take(&k, "", false); !whole {
					break
				}
			}
			if whole {
				f.lines.end(f.visit)
			}
			for _, line := range f.page.Lines {
				got[line.Rank] += string(line.Text) + "\n"
			}
			if f.page.Next == "" {
				break
			}
			var err error
			if from, err = parseCursor(f.page.Next); err != nil {
				t.Fatal(err)
			}
		}
		for rank, text := range texts {
			want := text.String()
			if want != "" && !strings.HasSuffix(want, "\n") {
				want += "\n"
			}
			if got[rank] != want {
				t.Fatalf("rank %d: %q, want %q", rank, got[rank], want)
			}
		}
	})
}

func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"1.2.3", "", "0.0.0", "1.1", "9223372036854775807.9223372036854775807.2147483647", "1.1.+1", "1.2.3.gap"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCursor(text)
		if err != nil {
			return
		}
		if again, err := parseCursor(c.String()); err != nil || again != c {
			t.Errorf("%q: %v became %v, %v", text, c, again, err)
		}
	})
}
