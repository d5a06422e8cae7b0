package protocol

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func token(t testing.TB) JoinToken {
	t.Helper()
	token, err := NewJoinToken(signingKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

var (
	userKey = "U" + strings.Repeat("A", 55)
	sealKey = "X" + strings.Repeat("A", 55)
)

// TestJoin is the exchange by which a cluster joins.
func TestJoin(t *testing.T) {
	made := token(t)
	got, err := ParseJoinToken(made.Text() + "\n") // as read from a file
	if err != nil {
		t.Fatal(err)
	}
	request := NewEnrol(got, userKey, sealKey)
	if err := request.Validate(); err != nil {
		t.Fatal(err)
	}
	if request.Token != made.ID() {
		t.Error("the relay would not know the token")
	}
	answer := &Enrolment{Nonce: request.Nonce, Cluster: "onprem-1", Trust: Trust{Keys: []RelayKey{signingKey().Public()}}}
	data, err := EncodeSigned(answer, signingKey())
	if err != nil {
		t.Fatal(err)
	}
	opened, err := OpenEnrolment(data, got, request)
	if err != nil || opened.Cluster != "onprem-1" {
		t.Errorf("%+v, %v", opened, err)
	}

	// Somebody in between answers in the relay's place.
	other, err := NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		keys []RelayKey
		sign *SigningKey
		want BreachKind
	}{
		"with a key of his own":                 {[]RelayKey{other.Public()}, other, UnknownKey},
		"with his own key beside the relay's":   {[]RelayKey{other.Public(), signingKey().Public()}, other, UnknownKey},
		"with an answer to another's request":   {[]RelayKey{signingKey().Public()}, signingKey(), Replayed},
		"in the relay's name, without its seed": {[]RelayKey{signingKey().Public()}, nil, Forged},
	} {
		t.Run(name, func(t *testing.T) {
			forged := &Enrolment{Nonce: request.Nonce, Cluster: "onprem-1", Trust: Trust{Keys: tc.keys}}
			if tc.want == Replayed {
				forged.Nonce = "n-0123456789abcdef"
			}
			sign := tc.sign
			if sign == nil {
				sign = other
			}
			data, err := EncodeSigned(forged, sign)
			if err != nil {
				t.Fatal(err)
			}
			if tc.sign == nil {
				data = []byte(strings.Replace(string(data), other.Public().ID(), signingKey().Public().ID(), 1))
			}
			var b *Breach
			if _, err := OpenEnrolment(data, got, request); !errors.As(err, &b) || b.Kind != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// TestEnrolIsBound: whoever sees a request can make no other of it.
func TestEnrolIsBound(t *testing.T) {
	for name, change := range map[string]func(*Enrol){
		"another key":      func(e *Enrol) { e.PublicKey = "U" + strings.Repeat("B", 55) },
		"another seal key": func(e *Enrol) { e.SealKey = "X" + strings.Repeat("B", 55) },
		"another nonce":    func(e *Enrol) { e.Nonce = "n-0123456789abcdef" },
		"another token":    func(e *Enrol) { e.Token = token(t).ID() },
		"no proof":         func(e *Enrol) { e.Proof = nil },
		"a token in words": func(e *Enrol) { e.Token = "token" },
		"capitals":         func(e *Enrol) { e.Token = strings.ToUpper(e.Token) },
		"no key":           func(e *Enrol) { e.PublicKey = "" },
		"no seal key":      func(e *Enrol) { e.SealKey = "" },
		"a short nonce":    func(e *Enrol) { e.Nonce = "n" },
	} {
		e := NewEnrol(token(t), userKey, sealKey)
		change(e)
		if e.Validate() == nil {
			t.Errorf("%s: the request is accepted", name)
		}
	}
}

// TestTokenIsNotPrinted: a token that ends up in a log is not one.
func TestTokenIsNotPrinted(t *testing.T) {
	made := token(t)
	for _, text := range []string{fmt.Sprint(made), fmt.Sprintf("%v %s %q", made, made, made)} {
		if strings.Contains(text, made.Text()) || strings.Contains(text, joinPrefix) {
			t.Errorf("printed as %s", text)
		}
	}
	_, err := ParseJoinToken("trj_secret")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

// FuzzParseJoinToken: what is read writes itself again.
func FuzzParseJoinToken(f *testing.F) {
	f.Add(token(f).Text())
	f.Add("trj_")
	f.Add(strings.Repeat("trj_A", 99))
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := ParseJoinToken(text)
		if err == nil && parsed.Text() != strings.TrimSpace(text) {
			t.Errorf("%q was read as %q", text, parsed.Text())
		}
	})
}

// FuzzOpenEnrolment: no answer is believed but the relay's own.
func FuzzOpenEnrolment(f *testing.F) {
	made, err := ParseJoinToken("trj_" + strings.Repeat("A", 64))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"v":1,"kind":"enrolment","body":{"nonce":"n-0123456789abcdef","cluster":"c","trust":{"keys":["` + strings.Repeat("A", 43) + `="]}},"key":"66687aadf862bd77","sig":"AAAA"}`))
	request := NewEnrol(made, userKey, sealKey)
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, err := OpenEnrolment(data, made, request); err == nil {
			t.Errorf("believed %+v", e)
		}
	})
}
