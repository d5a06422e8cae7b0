// Package process is what the daemons have in common: the order of stopping,
// signals, the logger, health and the metric that names the build.
//
// A daemon stops in the opposite order of its start, also when the start fails
// half-way, and every step is tried though others failed. The first SIGTERM or
// SIGINT asks for that, a second one ends the process at once. Nothing here
// runs by itself or keeps state of the package.
package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rs/zerolog"
)

// Stack is what has been started and is to be stopped, last first. The zero
// value is ready.
type Stack struct {
	Log zerolog.Logger

	mu    sync.Mutex
	steps []step
}

type step struct {
	name string
	stop func(context.Context) error
}

// Push adds how to stop what was just started. Stop must end soon after its
// context did; a nil error means that all of it has ended.
func (s *Stack) Push(name string, stop func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, step{name, stop})
}

// Stop stops everything, and does nothing the second time. It returns all
// errors, with the names of their steps.
func (s *Stack) Stop(ctx context.Context) error {
	s.mu.Lock()
	steps := s.steps
	s.steps = nil
	s.mu.Unlock()

	var errs []error
	for _, step := range slices.Backward(steps) {
		s.Log.Debug().Str("step", step.name).Msg("stopping")
		if err := step.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", step.name, err))
		}
	}
	return errors.Join(errs...)
}

// Rollback is deferred by what starts a daemon: where that returns an error,
// what was started is stopped again.
//
//	func (d *Daemon) start(ctx context.Context) (err error) {
//		defer d.stack.Rollback(ctx, &err)
func (s *Stack) Rollback(ctx context.Context, err *error) {
	if *err != nil {
		// The context may be what ended the start.
		*err = errors.Join(*err, s.Stop(context.WithoutCancel(ctx)))
	}
}
