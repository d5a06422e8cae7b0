package cli

import (
	"strings"
	"testing"
	"time"
)

// FuzzToken: what is taken as a token can stand in a header, and an error does
// not repeat it.
func FuzzToken(f *testing.F) {
	for _, seed := range []string{"", " \n", "trt_abc\n", "trj_abc", "trt_a b", "trt_\x00", "trt_ü", `{"token":"trt_secret"}` + "\n{}", strings.Repeat("a", maxToken)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		token, err := parseToken(text, "x")
		if err == nil {
			if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) || strings.TrimSpace(string(text)) != token {
				t.Errorf("%q is taken as %q", text, token)
			}
			return
		}
		if secret := strings.TrimSpace(string(text)); token != "" || len(secret) > 40 && strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %q, %v", text, token, err)
		}
	})
}

func TestSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{"90d": 90 * 24 * time.Hour, "12h": 12 * time.Hour, "1m": time.Minute, "0090m": 90 * time.Minute} {
		var s span
		if err := s.UnmarshalText([]byte(text)); err != nil || time.Duration(s) != want {
			t.Errorf("%s: %v, %v", text, time.Duration(s), err)
		}
	}
	for _, text := range []string{"", "d", "0d", "-1d", "1", "1s", "1.5h", "1d12h", "2000000000d", "99999999999999999999d", "+1d"} {
		if err := new(span).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
