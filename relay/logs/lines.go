package logs

import (
	"bytes"
	"cmp"
	"slices"
	"time"
)

// Line is a line of output, or a mark where output was lost. Its time is that
// of the chunk it begins in, which is when the chunk's last line was written, by
// the clock of its node: a chunk is sent within a fraction of a second, but what
// an agent could not send for a while comes in chunks of up to 64 KiB.
type Line struct {
	Time    time.Time
	Cluster string
	Job     string
	Attempt int
	Rank    int
	Text    []byte // without the end of the line
	Gap     string // why output before the next line was lost; then there is no text
}

const (
	// maxLine is where a line that is longer is cut into several.
	maxLine = 64 << 10
	// maxAmid is how many chunks, of all, a line may wait for its rest. Then it
	// is given out as it is: a pod that was killed leaves lines unfinished.
	maxAmid = 4096
)

// joiner makes lines of chunks. It holds the lines that are not finished: of
// the sources of at most maxAmid chunks, at most maxLine each.
type joiner struct{ open map[source]*unfinished }

type unfinished struct {
	Line
	begin uint64 // the sequence of the chunk it begins in
	cut   bool   // a part of it was given out
}

// low is the sequence from which all lines can be read that are unfinished; next
// where there are none.
func (j *joiner) low(next uint64) uint64 {
	for _, u := range j.open {
		next = min(next, u.begin)
	}
	return next
}

// take gives out the lines that end with the chunk, until visit returns false.
// gap is why output before the chunk is lost. headless: the reading begins with
// it, and the rest of a line that began before is left out.
func (j *joiner) take(k *kept, gap string, headless bool, visit func(Line) bool) bool {
	if j.open == nil {
		j.open = map[source]*unfinished{}
	}
	stale := func(_ source, u *unfinished) bool { return u.begin+maxAmid < k.seq }
	if !j.finish(stale, visit) {
		return false
	}
	this := func(of source, _ *unfinished) bool { return of == k.source }
	text := k.text
	if gap != "" {
		mark := k.line(nil)
		mark.Gap = gap
		if !j.finish(this, visit) || !visit(mark) {
			return false
		}
	} else if k.amid && headless {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	for len(text) > 0 {
		part, rest, whole := bytes.Cut(text, []byte("\n"))
		text = rest
		if u := j.open[k.source]; u == nil && whole && len(part) <= maxLine {
			if !visit(k.line(part)) {
				return false
			}
		} else if !j.join(k, part, whole, visit) {
			return false
		}
	}
	return !k.eof || j.finish(this, visit)
}

// join adds a part of a line to what is there of it.
func (j *joiner) join(k *kept, part []byte, whole bool, visit func(Line) bool) bool {
	u := j.open[k.source]
	if u == nil {
		u = &unfinished{Line: k.line(nil), begin: k.seq}
		j.open[k.source] = u
	}
	for {
		n := min(len(part), maxLine-len(u.Text))
		u.Text, part = append(u.Text, part[:n]...), part[n:]
		if len(part) == 0 {
			break
		}
		line := u.Line
		// It begins where it began: a reading that starts there cuts it again at
		// the same places.
		*u = unfinished{Line: k.line(nil), begin: u.begin, cut: true}
		if !visit(line) {
			return false
		}
	}
	if !whole {
		return true
	}
	delete(j.open, k.source)
	return u.cut && len(u.Text) == 0 || visit(u.Line)
}

// finish gives out unfinished lines as they are, the oldest first.
func (j *joiner) finish(which func(source, *unfinished) bool, visit func(Line) bool) bool {
	if len(j.open) == 0 {
		return true
	}
	var done []source
	for of, u := range j.open {
		if which(of, u) {
			done = append(done, of)
		}
	}
	slices.SortFunc(done, func(a, b source) int { return cmp.Compare(j.open[a].begin, j.open[b].begin) })
	for _, of := range done {
		u := j.open[of]
		delete(j.open, of)
		if !(u.cut && len(u.Text) == 0) && !visit(u.Line) {
			return false
		}
	}
	return true
}

// end gives out all that is unfinished.
func (j *joiner) end(visit func(Line) bool) bool {
	return j.finish(func(source, *unfinished) bool { return true }, visit)
}

func (k *kept) line(text []byte) Line {
	return Line{Time: k.time, Cluster: k.cluster, Job: k.job, Attempt: k.attempt, Rank: k.rank, Text: text}
}
