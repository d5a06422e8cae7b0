package protocol

import "fmt"

// Sealed is a value that only the agents of one cluster can read: an xkeys box
// (X25519, XSalsa20-Poly1305, as of github.com/nats-io/nkeys) from a key that
// was made for it. What is inside names the job and the use of the value, so
// that one value cannot stand in for another.
type Sealed struct {
	To   string `json:"to"`   // the cluster's public curve key (X…)
	From string `json:"from"` // the public curve key of who sealed it
	Box  []byte `json:"box"`
}

// Validate says what is wrong with the value.
func (s *Sealed) Validate() error {
	switch {
	case len(s.To) != nkeyLength || s.To[0] != 'X':
		return fmt.Errorf("to: %q is not a public curve key (X…)", Cut(s.To, 80))
	case len(s.From) != nkeyLength || s.From[0] != 'X':
		return fmt.Errorf("from: %q is not a public curve key (X…)", Cut(s.From, 80))
	case len(s.Box) == 0 || len(s.Box) > MaxSealed:
		return fmt.Errorf("box: %d bytes, 1 to %d are allowed", len(s.Box), MaxSealed)
	}
	return nil
}
