package link

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/trainrelay/trainrelay/internal/bus"
	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/protocol"
)

// broker runs a NATS server on a port, with the scripted relay behind it.
func broker(t *testing.T, port int, r *relay) (stop func(), url string, nudge func()) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker did not start")
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	_, err = nc.Subscribe(protocol.UpWildcard(), func(m *nats.Msg) {
		if data, err := r.answer(m.Subject, m.Data); err == nil {
			_ = m.Respond(data)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return func() { nc.Close(); s.Shutdown(); s.WaitForShutdown() }, s.ClientURL(),
		func() { _ = nc.Publish(protocol.NudgeSubject("onprem-1", r.nudgeWord()), nil) }
}

func TestOverARealBroker(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := &relay{onSync: grants(start("a"))}
	stopBroker, url, nudge := broker(t, server.RANDOM_PORT, r)
	w := newWorkloads()

	dialer, err := dial.New(dial.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var l *Link
	linked, cut := make(chan struct{}), make(chan struct{}, 1)
	conn, err := bus.Connect(t.Context(), bus.Options{
		URL: url, Dialer: dialer, Log: zerolog.Nop(), MaxDelay: 50 * time.Millisecond,
		OnState: func(up bool, cause error) {
			select {
			case <-linked:
				l.Connection(up, cause)
			default: // of Connect itself
			}
			if !up {
				poke(cut)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l = newLink(t, conn, w)
	close(linked)
	ctx, cancel := context.WithCancel(t.Context())
	led := make(chan error, 1)
	go func() { led <- l.Lead(ctx) }()
	// The second sync tells the room of the compute that the first one brought.
	w.until(t, "two starts", func() bool { return len(w.started) == 2 })

	// A nudge comes through.
	w.do(func() { w.started = nil })
	nudge()
	w.until(t, "the start after the nudge", func() bool { return len(w.started) > 0 })

	// What ends while the broker is away is told once it is back.
	stopBroker()
	<-cut
	l.Observe(event("a", protocol.Completed))
	_, port, err := net.SplitHostPort(strings.TrimPrefix(url, "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	stopBroker, _, _ = broker(t, number, r)
	w.until(t, "the end folded", func() bool { return len(w.folded) > 0 })
	if end := r.folded(ref("a")).End; end == nil || end.State != protocol.Completed {
		t.Errorf("the relay has the end %+v", end)
	}
	cancel()
	if err := <-led; err != nil {
		t.Error(err)
	}
	conn.Close()
	stopBroker()
}
