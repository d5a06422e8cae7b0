package logs

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// container is the one that runs the command.
	container = "main"
	// slack is how far before a position a reading begins: by so much may the
	// timestamps of stdout and stderr be out of order.
	slack = 5 * time.Second
	// linger is how long a pod that is not ours any more is still followed.
	linger = 10 * time.Second
)

// follower ships the output of one pod.
type follower struct {
	logs *Logs
	log  zerolog.Logger
	done chan struct{} // closed when follow returns

	mu    sync.Mutex
	pod   Pod
	ended chan struct{} // closed once the container has ended
	gone  chan struct{} // closed once the pod is not ours any more
}

func newFollower(l *Logs, pod Pod) *follower {
	f := &follower{
		logs:  l,
		log:   l.opts.Log.With().Str("pod", pod.Namespace+"/"+pod.Name).Stringer("attempt", pod.Ref).Logger(),
		done:  make(chan struct{}),
		pod:   pod,
		ended: make(chan struct{}),
		gone:  make(chan struct{}),
	}
	f.update(pod)
	return f
}

// update takes in what became of the pod.
func (f *follower) update(pod Pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pod = pod
	if pod.Ended && !closed(f.ended) {
		close(f.ended)
	}
}

// release says that the pod is not ours any more.
func (f *follower) release() {
	if !closed(f.gone) {
		close(f.gone)
	}
}

func (f *follower) released() bool { return closed(f.gone) }
func (f *follower) finished() bool { return closed(f.done) }

func (f *follower) current() Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pod
}

// follow ships the pod's output until all of it is at the relay, the relay
// wants no more, or ctx is done.
func (f *follower) follow(ctx context.Context) {
	defer close(f.done)
	f.logs.metrics.following.Inc()
	defer f.logs.metrics.following.Dec()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-f.gone:
			wait(ctx, linger)
			cancel()
		}
	})
	defer cancel()

	s := newSender(f.logs, f.log, f.current())
	if !s.locate(ctx) {
		return
	}
	retry := newRetry()
	whole := false      // the last reading reached the log's end in good order
	var before *reading // the last one, where it began after the end and brought nothing new
	for {
		ended, gone, start := closed(f.ended), f.released(), s.at
		r, err := f.read(ctx, s, !ended && !gone)
		switch {
		case s.stopped || ctx.Err() != nil:
			return
		case apierrors.IsNotFound(err) && (ended || gone):
			f.finish(ctx, s, piece{}, !whole)
			return
		case gone && !ended:
			return // it lives on, in another agent's care
		case err != nil:
			f.log.Debug().Err(err).Msg("cannot read the output now; trying again")
		}
		progress := compare(s.at, start) != 0
		whole = err == nil && r.err == nil && !s.rewound
		if progress {
			retry.Reset()
		}
		switch {
		case ended && whole && progress:
			before = nil
		case ended && whole && before != nil && r.agrees(before):
			f.finish(ctx, s, r.tail, !r.seen)
			return
		case ended && whole:
			before = r
		default:
			before = nil
			f.rest(ctx, retry.NextBackOff(), ended)
		}
	}
}

// rest waits before the next reading, no longer than to a change of the pod.
func (f *follower) rest(ctx context.Context, d time.Duration, ended bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	end := f.ended
	if ended {
		end = nil
	}
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-end:
	case <-f.gone:
	}
}

// read ships the log from the sender's position to its end. The error is of
// opening the log; one of reading it is the reading's.
func (f *follower) read(ctx context.Context, s *sender, follow bool) (*reading, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pod := f.current()
	r := newReading(s.at, pod.ContainerStarted)
	opts := &corev1.PodLogOptions{Container: container, Follow: follow, Timestamps: true}
	if !r.fresh {
		opts.SinceTime = &metav1.Time{Time: s.at.Time.Add(-slack)}
	}
	body, err := f.logs.opts.Pods.Pods(pod.Namespace).GetLogs(pod.Name, opts).Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the log of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	defer body.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // frees the reading, should it wait for the log or for us
	wg.Go(func() { r.read(ctx, body) })
	s.ship(ctx, r.runs)
	return r, nil
}

// finish ships the unfinished last line and the end of the output.
func (f *follower) finish(ctx context.Context, s *sender, tail piece, lost bool) {
	if f.current().Disrupted {
		return
	}
	chunk := s.chunk(s.at)
	chunk.EOF = true
	if len(tail.data) > 0 {
		chunk.Data, chunk.To = tail.data, tail.to
	}
	if lost {
		chunk.Gap = "the rest of the output may be missing: the pod or its log was gone before all was read"
		f.logs.metrics.gaps.Inc()
	}
	s.send(ctx, chunk)
}

// newRetry returns delays with full jitter, of up to half a minute, for ever.
func newRetry() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(200*time.Millisecond),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(1), // 0 to twice the interval
		backoff.WithMaxInterval(15*time.Second),
		backoff.WithMaxElapsedTime(0),
	)
}

// wait waits for d, and reports whether ctx is still live.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return ctx.Err() == nil
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
