package api

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/trainrelay/trainrelay/protocol"
)

// place is how far a reader has come in a job's output. Its text is the id of
// an event: the sequence reached and, once ranks have ended, the attempt and
// which they are, so that a reader who goes on knows what is no longer to come.
type place struct {
	seq     uint64
	attempt int
	ranks   []byte // a bit for each rank that has ended
}

// pass moves the place behind the chunk. Where the output starts over, ends
// that were seen before may come again.
func (p *place) pass(c Chunk) {
	if c.Again {
		*p = place{}
	}
	p.seq = c.Seq
	if !c.EOF || c.Attempt < p.attempt {
		return
	}
	if c.Attempt > p.attempt {
		p.attempt, p.ranks = c.Attempt, nil
	}
	for len(p.ranks) <= c.Rank/8 {
		p.ranks = append(p.ranks, 0)
	}
	p.ranks[c.Rank/8] |= 1 << (c.Rank % 8)
}

// ended is how many ranks of the attempt have ended.
func (p *place) ended(attempt int) int {
	if attempt != p.attempt {
		return 0
	}
	n := 0
	for _, b := range p.ranks {
		n += bits.OnesCount8(b)
	}
	return n
}

func (p *place) String() string {
	if p.attempt == 0 {
		return strconv.FormatUint(p.seq, 10)
	}
	return fmt.Sprintf("%d.%d.%s", p.seq, p.attempt, base64.RawURLEncoding.EncodeToString(p.ranks))
}

// parsePlace reads a place that String wrote; the empty text is the beginning.
func parsePlace(text string) (place, error) {
	var p place
	if text == "" {
		return p, nil
	}
	bad := errors.New("not a place in a stream")
	parts := strings.Split(text, ".")
	var err error
	if p.seq, err = strconv.ParseUint(parts[0], 10, 63); err != nil {
		return place{}, bad
	}
	if len(parts) == 1 {
		return p, nil
	}
	if len(parts) != 3 {
		return place{}, bad
	}
	p.attempt, err = strconv.Atoi(parts[1])
	if err != nil || p.attempt < 1 || p.attempt > protocol.MaxAttempts {
		return place{}, bad
	}
	p.ranks, err = base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(p.ranks) > protocol.MaxInstances/8+1 {
		return place{}, bad
	}
	return p, nil
}
