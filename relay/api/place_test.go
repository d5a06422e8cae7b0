package api

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestPlaceKnowsWhatEnded: for any chunks, read in one go or resumed from the
// text of the place anywhere, the place knows the same ends.
func TestPlaceKnowsWhatEnded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ranks := rapid.IntRange(1, 40).Draw(t, "ranks")
		ended := map[int]bool{}
		var p place
		for seq := range uint64(rapid.IntRange(1, 60).Draw(t, "chunks")) {
			c := Chunk{Seq: seq + 1, Attempt: 2, Rank: rapid.IntRange(0, ranks-1).Draw(t, "rank"), EOF: rapid.Bool().Draw(t, "eof")}
			if rapid.Bool().Draw(t, "late") { // of the attempt before
				c.Attempt = 1
			} else if c.EOF {
				ended[c.Rank] = true
			}
			p.pass(c)
			if rapid.Bool().Draw(t, "resume") {
				read, err := parsePlace(p.String())
				if err != nil {
					t.Fatal(err)
				}
				p = read
			}
			if p.seq != c.Seq || p.ended(2) != len(ended) {
				t.Fatalf("at %d, %d ranks ended; want %d, %d", p.seq, p.ended(2), c.Seq, len(ended))
			}
		}
	})
}

func FuzzParsePlace(f *testing.F) {
	for _, text := range []string{"", "7", "7.1.AQ", "18446744073709551615", "1.2", "1.99.AQ", "-1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePlace(text)
		if err != nil {
			return
		}
		again, err := parsePlace(p.String())
		if err != nil {
			t.Fatalf("%q is read, %q is not: %v", text, p.String(), err)
		}
		if diff := cmp.Diff(p, again, cmp.AllowUnexported(place{})); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	})
}
