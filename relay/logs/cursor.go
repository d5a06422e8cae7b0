package logs

import (
	"fmt"
	"strconv"
	"strings"
)

// cursor is a place between two lines: before a line of those that end with a
// chunk. Who goes on there reads from low, where the oldest line begins that may
// end later; he cannot see any more that output before the chunk is lost.
type cursor struct {
	low, seq uint64
	line     int // of the chunk, from 0
	gap      bool
}

func (c cursor) before(other cursor) bool {
	return c.seq < other.seq || c.seq == other.seq && c.line < other.line
}

func (c cursor) String() string {
	text := fmt.Sprintf("%d.%d.%d", c.low, c.seq, c.line)
	if c.gap {
		text += gapSuffix
	}
	return text
}

const gapSuffix = ".gap"

func parseCursor(s string) (cursor, error) {
	s, gap := strings.CutSuffix(s, gapSuffix)
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return cursor{}, ErrCursor
	}
	low, err := strconv.ParseUint(parts[0], 10, 63)
	if err != nil {
		return cursor{}, ErrCursor
	}
	seq, err := strconv.ParseUint(parts[1], 10, 63)
	if err != nil {
		return cursor{}, ErrCursor
	}
	line, err := strconv.ParseUint(parts[2], 10, 31)
	if err != nil || low == 0 || low > seq {
		return cursor{}, ErrCursor
	}
	return cursor{low, seq, int(line), gap}, nil
}
