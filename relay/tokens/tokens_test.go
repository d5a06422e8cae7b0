package tokens

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFirstStart(t *testing.T) {
	dir := t.TempDir()
	var token string
	made, err := Open(dir, func(made string) error { token = made; return nil })
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, func(string) error { t.Error("made a second token"); return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, first := range []*First{made, again} {
		if digest, ok := Digest(token); !ok || !first.Is(digest) {
			t.Errorf("%v, and the token is not the first administrator's", ok)
		}
		for _, wrong := range []string{"", "trt_", token + "a", token[1:], strings.ToUpper(token), token[:len(token)-1] + "\n", token[:46] + "~"} {
			if digest, ok := Digest(wrong); ok || digest != "" || first.Is(digest) {
				t.Errorf("%q is taken as a token", wrong)
			}
		}
		if _, digest := New(); first.Is(digest) {
			t.Error("another token is taken as his")
		}
	}
	if len(token) != len("trt_")+43 {
		t.Errorf("a token of %d characters", len(token))
	}
}

func TestTheTokenIsNotKept(t *testing.T) {
	dir := t.TempDir()
	var token string
	if _, err := Open(dir, func(made string) error { token = made; return nil }); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	file := filepath.Join(dir, entries[0].Name())
	content, err := os.ReadFile(file)
	if err != nil || bytes.Contains(content, []byte(token)) {
		t.Errorf("%q, %v", content, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestUndelivered: a token that nobody got is not the one that is asked for.
func TestUndelivered(t *testing.T) {
	dir := t.TempDir()
	full := errors.New("disk full")
	if _, err := Open(dir, func(string) error { return full }); !errors.Is(err, full) {
		t.Fatal(err)
	}
	delivered := false
	if _, err := Open(dir, func(string) error { delivered = true; return nil }); err != nil || !delivered {
		t.Errorf("the next start: delivered %v, %v", delivered, err)
	}
}

func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(File(dir), []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), "is damaged: remove it") {
		t.Error(err)
	}
}

// FuzzDigest: what is taken as a token is one that could have been made here.
func FuzzDigest(f *testing.F) {
	token, _ := New()
	for _, seed := range []string{"", "trt_", token, token + "=", "trt_" + strings.Repeat("A", 43), "trt_" + strings.Repeat("/", 43), "trj_" + token[4:], token[:20] + "\r\n" + token[22:]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		digest, ok := Digest(text)
		if !ok {
			if digest != "" {
				t.Errorf("%q has a digest and is no token", text)
			}
			return
		}
		secret, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, prefix))
		if err != nil || len(secret) != size || prefix+base64.RawURLEncoding.EncodeToString(secret) != text || len(digest) != 64 {
			t.Errorf("%q is taken as a token: %v", text, err)
		}
	})
}
