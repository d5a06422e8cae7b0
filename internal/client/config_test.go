package client

import "testing"

// FuzzConfig: of a configuration that is taken a client can be made that sends
// its token by TLS only, or it is said why not.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"", "{}", `{"url":"https://relay:8443","token":"trt_x"}`, `{"url":"http://relay","token":"t"}`,
		`{"url":"https://relay/\u0000","token":"a\r\nb","ca":"x"}`, `{"url":"https://user:pw@[::1]:1/a/","token":"t"}`, `{"url":"HTTPS://x","token":"t"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			if c != (Config{}) {
				t.Errorf("%q: half a configuration", data)
			}
			return
		}
		client, err := New(c, Options{})
		if err == nil && (client.base.Scheme != "https" || client.base.Host == "") {
			t.Errorf("%q: a client of %s", data, client.base)
		}
	})
}
