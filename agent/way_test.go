package agent

import (
	"net/url"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/trainrelay/trainrelay/internal/dial"
)

// TestWayToTheBroker: agents connect to the relay itself, or to its NATS
// server where they are told of one.
func TestWayToTheBroker(t *testing.T) {
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	dialer, err := dial.New(dial.Options{})
	if err != nil {
		t.Fatal(err)
	}
	relay := &url.URL{Scheme: "https", Host: "relay.example:8443"}
	for _, tc := range []struct {
		nats *url.URL
		want string
	}{
		{nil, "wss://relay.example:8443"},
		{&url.URL{Scheme: "tls", Host: "nats.example:4222"}, "tls://nats.example:4222"},
	} {
		options, err := busOptions(Options{Relay: relay, NATS: tc.nats, Cluster: "c"}, dialer, key)
		if err != nil || options.URL != tc.want || options.TLS == nil {
			t.Errorf("by %s, want %s (%v)", options.URL, tc.want, err)
		}
	}
	for _, wrong := range []*url.URL{
		{Scheme: "https", Host: "nats.example"}, {Scheme: "tls"}, {Scheme: "tls", Host: "nats.example", User: url.UserPassword("u", "secret")},
	} {
		o := Options{Relay: relay, NATS: wrong, Cluster: "c"}
		if err := o.validate(); err == nil || !strings.Contains(err.Error(), "NATS server is not one") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", wrong.Redacted(), err)
		}
	}
}
