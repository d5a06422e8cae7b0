package protocol

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// BenchmarkSigned is what a signature adds to an answer: one without starts,
// as most are, and a full one. The ratio is to the same without a signature.
func BenchmarkSigned(b *testing.B) {
	key := signingKey()
	trusted := []RelayKey{key.Public()}
	full := reply()
	for i := range MaxStarts - 1 {
		job := iris()
		job.Name = fmt.Sprintf("iris-%d", i+2)
		full.Starts = append(full.Starts, Start{Attempt: 1, Job: job})
	}
	idle := reply()
	idle.Starts = nil
	for _, tc := range []struct {
		name  string
		reply *SyncReply
	}{{"idle", idle}, {"50 starts", full}} {
		plain, err := Encode(tc.reply)
		if err != nil {
			b.Fatal(err)
		}
		signed, err := EncodeSigned(tc.reply, key)
		if err != nil {
			b.Fatal(err)
		}
		ratio := func(b *testing.B, with, without func() error) {
			var signing, bare time.Duration
			for b.Loop() {
				begin := time.Now()
				errWith := with()
				middle := time.Now()
				errWithout := without()
				signing, bare = signing+middle.Sub(begin), bare+time.Since(middle)
				if err := errors.Join(errWith, errWithout); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(0, "ns/op") // of both together
			b.ReportMetric(float64(signing.Microseconds())/float64(b.N), "µs/signed")
			b.ReportMetric(float64(signing)/float64(bare), "x-unsigned")
			b.ReportMetric(float64(len(signed)-len(plain)), "bytes-more")
		}
		b.Run(tc.name+"/encode", func(b *testing.B) {
			ratio(b, func() error { _, err := EncodeSigned(tc.reply, key); return err }, func() error { _, err := Encode(tc.reply); return err })
		})
		b.Run(tc.name+"/decode", func(b *testing.B) {
			ratio(b, func() error { return DecodeSigned(signed, new(SyncReply), trusted) }, func() error { return Decode(plain, new(SyncReply)) })
		})
	}
}
