package relay

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
)

// wire speaks NATS by hand, through the relay's front: what no client library
// would send.
type wire struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// wire opens a WebSocket and reads the server's greeting.
func (s *served) wire(t *testing.T) (w *wire, nonce string) {
	t.Helper()
	conn, err := (&tls.Dialer{Config: s.trust()}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.config.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	w = &wire{t, conn, bufio.NewReader(conn)}
	key := make([]byte, 16)
	_, _ = rand.Read(key)
	fmt.Fprintf(conn, "GET /nats HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(key))
	answer, err := http.ReadResponse(w.in, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(answer, err)
	}
	var info struct {
		Nonce string `json:"nonce"`
	}
	greeting := w.read()
	if err := json.Unmarshal([]byte(strings.TrimPrefix(greeting, "INFO ")), &info); err != nil || info.Nonce == "" {
		t.Fatalf("the server greets with %q: %v", greeting, err)
	}
	return w, info.Nonce
}

// send sends text in one frame.
func (w *wire) send(text string) {
	w.t.Helper()
	frame := []byte{0x82, 0x80 | 127}
	frame = binary.BigEndian.AppendUint64(frame, uint64(len(text)))
	frame = append(append(frame, 0, 0, 0, 0), text...) // a mask of zeros
	if _, err := w.conn.Write(frame); err != nil {
		w.t.Logf("the server takes no more: %v", err)
	}
}

// read is one frame of the server; empty once it has closed.
func (w *wire) read() string {
	head := make([]byte, 2)
	if _, err := io.ReadFull(w.in, head); err != nil || head[0]&0x0f == 8 {
		return ""
	}
	length := uint64(head[1] & 0x7f)
	switch length {
	case 126:
		more := make([]byte, 2)
		_, _ = io.ReadFull(w.in, more)
		length = uint64(binary.BigEndian.Uint16(more))
	case 127:
		more := make([]byte, 8)
		_, _ = io.ReadFull(w.in, more)
		length = binary.BigEndian.Uint64(more)
	}
	text := make([]byte, min(length, 1<<20))
	_, _ = io.ReadFull(w.in, text)
	return string(text)
}

// until reads on to one of the words, and returns what was read.
func (w *wire) until(words ...string) string {
	w.t.Helper()
	var all strings.Builder
	for {
		text := w.read()
		all.WriteString(text)
		for _, word := range words {
			if strings.Contains(all.String(), word) {
				return all.String()
			}
		}
		if text == "" {
			return all.String() + "(closed)"
		}
	}
}

// login is CONNECT with a key, and more options, as JSON.
func login(kp nkeys.KeyPair, nonce, more string) string {
	public, err := kp.PublicKey()
	if err != nil {
		panic(err) // of a test's own key
	}
	signature, err := kp.Sign([]byte(nonce))
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1,\"nkey\":%q,\"sig\":%q%s}\r\nPING\r\n",
		public, base64.RawURLEncoding.EncodeToString(signature), more)
}

// speaks opens a connection as the key's agent, sends text, and returns what
// the server says to it.
func (s *served) speaks(t *testing.T, kp nkeys.KeyPair, more, text string) string {
	t.Helper()
	w, nonce := s.wire(t)
	w.send(login(kp, nonce, more))
	if said := w.until("PONG", "-ERR"); !strings.Contains(said, "PONG") {
		return "refused to connect: " + said
	}
	w.send(text + "PING\r\n")
	said := w.until("PONG", "-ERR")
	return strings.TrimSpace(said)
}

// streamsOf are the last sequences of all streams but that of dead letters.
func streamsOf(ctx context.Context, t *testing.T, r *running) map[string]uint64 {
	t.Helper()
	all := map[string]uint64{}
	list := r.Broker().JetStream().ListStreams(ctx)
	for info := range list.Info() {
		if info.Config.Name != "DEADLETTERS" {
			all[info.Config.Name] = info.State.LastSeq
		}
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
