package process

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Signals is a context that is done at the first SIGTERM or SIGINT; its cause
// names the signal. A second one ends the process at once, with the status
// that shells give it: 128 and the signal's number. Stop gives up listening,
// and returns when nothing does any more.
func Signals(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	// Room for both: none is lost, however fast they come.
	received := make(chan os.Signal, 2)
	signal.Notify(received, syscall.SIGTERM, syscall.SIGINT)
	stopped := make(chan struct{})
	var listening sync.WaitGroup
	listening.Go(func() {
		for again := false; ; again = true {
			select {
			case s := <-received:
				if again {
					os.Exit(128 + int(s.(syscall.Signal)))
				}
				cancel(fmt.Errorf("received signal %q", s))
			case <-stopped:
				return
			}
		}
	})
	return ctx, sync.OnceFunc(func() {
		signal.Stop(received)
		close(stopped)
		listening.Wait()
		cancel(nil)
	})
}
