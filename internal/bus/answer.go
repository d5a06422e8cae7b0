package bus

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
)

// maxStatusLine is how much of an answer is looked at.
const maxStatusLine = 64

// answerConn notes the HTTP status with which the other side answers the
// opening of a WebSocket: nats.go does not say it.
type answerConn struct {
	net.Conn
	line []byte // nil once it was noted
	note func(status int)
}

func (c *Conn) noteAnswer(conn net.Conn) net.Conn {
	return &answerConn{Conn: conn, line: make([]byte, 0, maxStatusLine), note: func(status int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.answer = status
	}}
}

// Read is called by one goroutine at a time.
func (c *answerConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.line != nil && n > 0 {
		c.line = append(c.line, p[:min(n, maxStatusLine-len(c.line))]...)
		if bytes.IndexByte(c.line, '\n') >= 0 || len(c.line) == maxStatusLine {
			c.note(statusOf(c.line))
			c.line = nil
		}
	}
	return n, err
}

// statusOf reads the status from the beginning of an answer; 0 where it is
// none of HTTP's.
func statusOf(line []byte) int {
	version, rest, _ := bytes.Cut(line, []byte(" "))
	if !bytes.HasPrefix(version, []byte("HTTP/1.")) || len(rest) < 3 {
		return 0
	}
	status, err := strconv.Atoi(string(rest[:3]))
	if err != nil || status < 100 {
		return 0
	}
	return status
}

// notRelay says what an answer other than the opening of a WebSocket means.
func notRelay(status int) string {
	if status == 0 {
		return "the answer is not a relay's: the address may be wrong"
	}
	answer := fmt.Sprintf("the answer, %d %s, is not a relay's: ", status, http.StatusText(status))
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return answer + "the relay is starting, or away behind a gateway or a proxy that intercepts TLS"
	case http.StatusNotFound:
		return answer + "the address may be wrong"
	case http.StatusOK, http.StatusBadRequest, http.StatusUpgradeRequired:
		return answer + "a proxy that intercepts TLS lets no WebSocket through: have it allow the upgrade to websocket, or leave the relay out of the interception"
	}
	return answer + "the address may be wrong, or a proxy that intercepts TLS refuses"
}
