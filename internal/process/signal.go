package process

import (
	"context"
	"os/signal"
	"syscall"
)

// Signals is a context that is done at the first SIGTERM or SIGINT; its cause
// names the signal. A second one ends the process at once. Stop gives up
// listening.
func Signals(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = signal.NotifyContext(parent, syscall.SIGTERM, syscall.SIGINT)
	// Go's own handling of signals, which is to exit, comes back.
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
