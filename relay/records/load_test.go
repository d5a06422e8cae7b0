package records

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// fill writes queued records as a store would, but without waiting for each.
func fill(t testing.TB, dir string, jobs int) {
	t.Helper()
	js, stop := serve(t, dir, false)
	defer stop()
	s, stopStore := open(t, js, Options{})
	withCompute(t, s)
	stopStore()
	base := time.Now().UTC().Truncate(time.Microsecond)
	for i := range jobs {
		job := sample(fmt.Sprintf("job-%06d", i))
		spec, err := json.Marshal(job)
		if err != nil {
			t.Fatal(err)
		}
		status, err := json.Marshal(Status{
			Digest: job.Digest(), Compute: "c", Created: base.Add(time.Duration(i) * time.Millisecond), CreatedBy: "user",
			DisplayName: "a run of the benchmark", Experiment: "benchmark", MaxAttempts: 3,
		})
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range map[string][]byte{specKey(job.Name, job.Digest()): spec, statusKey(job.Name): status} {
			if _, err := js.PublishAsync("$KV."+bucketJobs+"."+key, value, jetstream.WithExpectStream("KV_"+bucketJobs)); err != nil {
				t.Fatal(err)
			}
		}
	}
	<-js.PublishAsyncComplete()
}

// TestRestartWithManyQueued: a long queue comes back whole, in modest memory.
func TestRestartWithManyQueued(t *testing.T) {
	const jobs = 20_000
	dir := t.TempDir()
	fill(t, dir, jobs)
	js, _ := serve(t, dir, true)
	before := heap()
	queue := new(line)
	s, _ := open(t, js, Options{Queue: queue})
	if n := queue.len(); n != jobs || s.index.queued() != jobs {
		t.Fatalf("%d jobs are in the queue, %d in the index; want %d", n, s.index.queued(), jobs)
	}
	if per := (heap() - before) / jobs; per > 2<<10 {
		t.Errorf("%d bytes of memory a job", per)
	}
	if job, err := s.Spec(t.Context(), "job-019999"); err != nil || job.Command != "true" {
		t.Errorf("%+v, %v", job, err)
	}
	runtime.KeepAlive(s)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkRestart is the start of a relay with 100,000 queued jobs.
func BenchmarkRestart(b *testing.B) {
	const jobs = 100_000
	dir := b.TempDir()
	fill(b, dir, jobs)
	b.ResetTimer()
	for range b.N {
		js, stop := serve(b, dir, true)
		s, stopStore := open(b, js, Options{})
		b.StopTimer()
		if s.index.queued() != jobs {
			b.Fatalf("%d jobs came back", s.index.queued())
		}
		b.ReportMetric(float64(heap())/jobs, "heap-bytes/job")
		stopStore()
		stop()
		b.StartTimer()
	}
}

// BenchmarkSubmit is one job accepted after the other, on disk.
func BenchmarkSubmit(b *testing.B) {
	js, _ := serve(b, b.TempDir(), true)
	s, _ := open(b, js, Options{})
	withCompute(b, s)
	for i := 0; b.Loop(); i++ {
		submit(b, s, sample(fmt.Sprint("job-", i)))
	}
}
