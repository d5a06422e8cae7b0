package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
)

// events writes server-sent events.
type events struct{ out steady }

func newEvents(w http.ResponseWriter) *events {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // some reverse proxies would keep it back
	return &events{out: steady{http.NewResponseController(w), w}}
}

// send sends one event; an empty id is none.
func (e *events) send(id, kind string, data any) error {
	body, err := json.Marshal(data)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", kind, body)
	return e.write(b.Bytes())
}

// beat shows that the stream lives.
func (e *events) beat() error { return e.write([]byte(": alive\n\n")) }

func (e *events) write(b []byte) error {
	if _, err := e.out.Write(b); err != nil {
		return err
	}
	return e.out.conn.Flush()
}
