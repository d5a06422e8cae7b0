package lab

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"
)

// patience bounds the wait for one thing in the lab.
const patience = 3 * time.Minute

// waitUntil asks until it is so, and says what was missing when it does not
// become so.
func waitUntil(ctx context.Context, what string, is func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := is(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func dials(ctx context.Context, ip string, port int) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return conn.Close()
}
