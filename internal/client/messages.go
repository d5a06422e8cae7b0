package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxEvent bounds one server-sent event, in bytes.
const maxEvent = 1 << 20

// message is one server-sent event.
type message struct {
	id, kind string
	data     []byte
}

// messages reads server-sent events.
type messages struct{ lines *bufio.Scanner }

func newMessages(r io.Reader) *messages {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	return &messages{lines}
}

// next is the next event. An event that the stream breaks off in is not one.
func (s *messages) next() (message, error) {
	var m message
	begun := false
	for s.lines.Scan() {
		line := s.lines.Bytes()
		if len(line) == 0 {
			if begun {
				return m, nil
			}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "id":
			m.id = string(value)
		case "event":
			m.kind = string(value)
		case "data":
			if begun {
				m.data = append(m.data, '\n')
			}
			m.data, begun = append(m.data, value...), true
			if len(m.data) > maxEvent {
				return message{}, errors.New("an event is too large")
			}
		}
	}
	if err := s.lines.Err(); err != nil {
		return message{}, err
	}
	return message{}, io.ErrUnexpectedEOF
}
