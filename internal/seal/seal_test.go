package seal

import (
	"bytes"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/trainrelay/trainrelay/protocol"
)

var purpose = Purpose{Job: "iris-1", Spec: "sha256:ab", Use: UseEnv("HF_TOKEN")}

// newKey makes a cluster's key.
func newKey(t testing.TB) (seed []byte, public string) {
	t.Helper()
	key, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	if seed, err = key.Seed(); err != nil {
		t.Fatal(err)
	}
	if public, err = key.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return seed, public
}

func TestSealAndOpen(t *testing.T) {
	older, to := newKey(t)
	newer, _ := newKey(t)
	for _, value := range []string{"", "hush", "two\nlines\x00\xff", strings.Repeat("x", MaxValue)} {
		sealed, err := Seal(to, purpose, []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Open([][]byte{newer, older}, purpose, &sealed)
		if err != nil || string(got) != value {
			t.Errorf("%.20q: got %.20q, %v", value, got, err)
		}
		again, err := Seal(to, purpose, []byte(value))
		if err != nil || bytes.Equal(sealed.Box, again.Box) || sealed.From == again.From {
			t.Errorf("%.20q is sealed the same twice: %v", value, err)
		}
		if len(value) > 1 && bytes.Contains(sealed.Box, []byte(value)) {
			t.Errorf("%.20q is in its box to be read", value)
		}
	}
}

// TestRefused: no other purpose, key or box opens, and no error says what is
// inside.
func TestRefused(t *testing.T) {
	const value = "hush-hush"
	seed, to := newKey(t)
	strange, _ := newKey(t)
	for name, tc := range map[string]struct {
		seeds  [][]byte
		change func(*Purpose, *protocol.Sealed)
		want   string
	}{
		"another job":      {[][]byte{seed}, func(p *Purpose, _ *protocol.Sealed) { p.Job = "iris-2" }, "another job"},
		"another command":  {[][]byte{seed}, func(p *Purpose, _ *protocol.Sealed) { p.Spec = "sha256:cd" }, "another specification"},
		"another variable": {[][]byte{seed}, func(p *Purpose, _ *protocol.Sealed) { p.Use = UseEnv("OTHER") }, "another use"},
		"another cluster":  {[][]byte{strange}, func(*Purpose, *protocol.Sealed) {}, "which the cluster does not have"},
		"no key":           {nil, func(*Purpose, *protocol.Sealed) {}, "which the cluster does not have"},
		"a bad seed":       {[][]byte{[]byte("SXSECRET")}, func(*Purpose, *protocol.Sealed) {}, "cannot be read"},
		"altered":          {[][]byte{seed}, func(_ *Purpose, s *protocol.Sealed) { s.Box[len(s.Box)-1] ^= 1 }, "altered"},
		"cut":              {[][]byte{seed}, func(_ *Purpose, s *protocol.Sealed) { s.Box = s.Box[:10] }, "altered"},
		"another sender":   {[][]byte{seed}, func(_ *Purpose, s *protocol.Sealed) { _, s.From = newKey(t) }, "altered"},
		"empty":            {[][]byte{seed}, func(_ *Purpose, s *protocol.Sealed) { s.Box = nil }, "box: 0 bytes"},
	} {
		sealed, err := Seal(to, purpose, []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		p := purpose
		tc.change(&p, &sealed)
		got, err := Open(tc.seeds, p, &sealed)
		if err == nil || got != nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %q, %v", name, got, err)
			continue
		}
		for _, secret := range []string{value, string(seed), "SXSECRET"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error says a secret: %v", name, err)
			}
		}
	}
	if _, err := Seal(to, purpose, make([]byte, MaxValue+1)); err == nil || !strings.Contains(err.Error(), "at most 11264") {
		t.Errorf("a large value: %v", err)
	}
	if _, err := Seal("XNOKEY", purpose, nil); err == nil || !strings.Contains(err.Error(), "not a public curve key") {
		t.Errorf("no key: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	seed, to := newKey(f)
	sealed, err := Seal(to, purpose, []byte("hush"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed.From, sealed.Box)
	f.Add(sealed.To, sealed.Box[:40])
	f.Add("X"+strings.Repeat("A", 55), []byte("xkv1"))
	f.Fuzz(func(t *testing.T, from string, box []byte) {
		got, err := Open([][]byte{seed}, purpose, &protocol.Sealed{To: to, From: from, Box: box})
		if err == nil && !(string(got) == "hush" && bytes.Equal(box, sealed.Box)) {
			t.Errorf("opened what nobody sealed: %q", got)
		}
	})
}
