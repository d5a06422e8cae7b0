package clusters

import (
	"context"

	"github.com/trainrelay/trainrelay/protocol"
)

// wait is somebody who waits until an agent was told to cancel attempts.
type wait struct {
	left map[protocol.Ref]bool
	done chan struct{}
}

// Told waits until answers to the cluster's agent had the cancels of all these
// attempts, or ctx is done, and reports whether they had.
func (s *Service) Told(ctx context.Context, cluster string, attempts []protocol.Ref) bool {
	w := &wait{left: map[protocol.Ref]bool{}, done: make(chan struct{})}
	for _, ref := range attempts {
		w.left[ref] = true
	}
	s.mu.Lock()
	if s.waits[cluster] == nil {
		s.waits[cluster] = map[*wait]struct{}{}
	}
	s.waits[cluster][w] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if delete(s.waits[cluster], w); len(s.waits[cluster]) == 0 {
			delete(s.waits, cluster)
		}
	}()
	select {
	case <-w.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// tell notes the cancels of an answer.
func (s *Service) tell(cluster string, cancels []protocol.Cancel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.waits[cluster] {
		if len(w.left) == 0 {
			continue // it is told so, and about to go
		}
		for _, cancel := range cancels {
			delete(w.left, cancel.Ref)
		}
		if len(w.left) == 0 {
			close(w.done)
		}
	}
}

// Forget drops what is remembered of a cluster that was disconnected: the next
// one of its name begins anew.
func (s *Service) Forget(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clusters, cluster)
	delete(s.nudges, cluster)
}
