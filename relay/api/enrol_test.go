package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/trainrelay/trainrelay/protocol"
)

// FuzzEnrol: whatever a stranger sends, what is taken was signed with the token
// that it names.
func FuzzEnrol(f *testing.F) {
	token, err := protocol.NewJoinToken(protocol.RelayKey{1})
	if err != nil {
		f.Fatal(err)
	}
	genuine, err := json.Marshal(protocol.NewEnrol(token, "U"+strings.Repeat("A", 55), "X"+strings.Repeat("B", 55)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(genuine)
	f.Add(append(genuine[:len(genuine):len(genuine)], "{}"...))
	for _, seed := range []string{"", "{}", "[]", "null", `{"token":"` + strings.Repeat("0", 64) + `"}`, `{"token":7}`, strings.Repeat("[", 4000)} {
		f.Add([]byte(seed))
	}
	if _, err := parseEnrol(genuine); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := parseEnrol(body)
		if err != nil {
			return
		}
		altered := *e
		altered.PublicKey = "U" + strings.Repeat("Z", 55)
		if altered.PublicKey != e.PublicKey && altered.Validate() == nil {
			t.Errorf("the proof of %s holds for another key", body)
		}
	})
}
