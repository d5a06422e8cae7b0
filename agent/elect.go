package agent

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// LeaseName is the Lease, in the agent's namespace, of whoever leads.
const LeaseName = "trainrelay-agent"

const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	leaseRetry    = 2 * time.Second
	// candidacyPause is how long a leader whom the relay refused stands back.
	candidacyPause = 5 * time.Second
)

// elect leads whenever this process has the lease, until ctx is done.
func (a *Agent) elect(ctx context.Context) error {
	for ctx.Err() == nil {
		err := a.candidate(ctx)
		if ctx.Err() != nil {
			break
		}
		a.o.Log.Warn().Err(err).Msg("not leading any more; standing again")
		timer := time.NewTimer(candidacyPause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// candidate waits for the lease and leads while it is held. The lease is given
// up only after the work under it has ended, so that no two leaders work at a
// time, unless it was lost.
func (a *Agent) candidate(ctx context.Context) error {
	election, resign := context.WithCancel(context.WithoutCancel(ctx))
	defer resign()
	t := &tenure{resign: resign, ended: make(chan struct{})}
	defer context.AfterFunc(ctx, t.withdraw)()

	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: LeaseName, Namespace: a.o.PodNamespace},
			Client:     a.leases.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: a.o.PodName + "_" + rand.Text()},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: leaseRetry,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(held context.Context) {
				if !t.begin() {
					return
				}
				work, stop := context.WithCancel(ctx)
				defer stop()
				defer context.AfterFunc(held, stop)()
				t.end(a.lead(work))
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	elector.Run(election)
	return t.wait()
}

// tenure is one candidacy, and the leading that may come of it.
type tenure struct {
	resign func() // gives the lease, or the wait for it, up
	ended  chan struct{}

	mu    sync.Mutex
	began bool
	over  bool
	err   error
}

// begin starts the work, unless it is too late for that.
func (t *tenure) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began = !t.over
	return t.began
}

// end notes that the work has ended, and gives the lease up.
func (t *tenure) end(err error) {
	t.mu.Lock()
	t.err = err
	t.mu.Unlock()
	close(t.ended)
	t.resign()
}

// withdraw ends a candidacy. Work that has begun is to end first.
func (t *tenure) withdraw() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.began {
		t.over = true
		t.resign()
	}
}

// wait waits for the work, where it began, after the election ended.
func (t *tenure) wait() error {
	t.mu.Lock()
	t.over = true
	began := t.began
	t.mu.Unlock()
	if !began {
		return nil
	}
	<-t.ended
	return t.err
}
