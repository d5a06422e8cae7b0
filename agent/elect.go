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
		Lock: lock{t: t, Interface: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: LeaseName, Namespace: a.o.PodNamespace},
			Client:     a.leases.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: a.o.PodName + "_" + rand.Text()},
		}},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: leaseRetry,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(held context.Context) {
				work, stop := context.WithCancel(ctx)
				defer stop()
				if !t.begin(stop) {
					return
				}
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

// lock is a lease that is given up only after the work under it has ended: the
// election would give it up as soon as a renewal fails, before it says so.
type lock struct {
	resourcelock.Interface
	t *tenure
}

// Update renews the lease, or gives it up, which is to have no holder.
func (l lock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity != "" {
		return l.Interface.Update(ctx, record)
	}
	if err := l.t.halt(ctx); err != nil {
		return err
	}
	// Meanwhile it may have become another's.
	now, _, err := l.Get(ctx)
	switch {
	case err != nil:
		return err
	case now.HolderIdentity != l.Identity():
		return fmt.Errorf("the lease is %s's by now", now.HolderIdentity)
	}
	return l.Interface.Update(ctx, record)
}

// tenure is one candidacy, and the leading that may come of it.
type tenure struct {
	resign func() // gives the lease, or the wait for it, up
	ended  chan struct{}

	mu    sync.Mutex
	began bool
	over  bool
	stop  func() // tells the work to end, once it began
	err   error
}

// begin starts the work, which stop ends, unless it is too late for that.
func (t *tenure) begin(stop func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began, t.stop = !t.over, stop
	return t.began
}

// halt ends the work, where it began, and waits for its end.
func (t *tenure) halt(ctx context.Context) error {
	t.mu.Lock()
	t.over = true
	began := t.began
	t.mu.Unlock()
	if !began {
		return nil
	}
	t.stop()
	select {
	case <-t.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the work under the lease goes on: %w", ctx.Err())
	}
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
