package agentauth

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) nkeys.KeyPair {
	t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	return kp
}

func sign(t testing.TB, kp nkeys.KeyPair, audience string) string {
	t.Helper()
	token, err := Sign(kp, audience, noon)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// verifier knows the key as that of cluster c1.
func verifier(t testing.TB, kp nkeys.KeyPair, now time.Time) Verifier {
	t.Helper()
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return Verifier{
		Audience: func(host string) bool { return host == "relay.example" },
		Cluster: func(key string) (string, bool) {
			if key == public {
				return "c1", true
			}
			return "", false
		},
		Now: now,
	}
}

func TestVerify(t *testing.T) {
	kp := newKey(t)
	token := sign(t, kp, "relay.example")
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	forged, err := json.Marshal(claims{Issuer: "UA", Audience: "relay.example", Expires: noon.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	plain := encoding.EncodeToString([]byte(`{"typ":"JWT","alg":"none"}`))
	for _, tc := range []struct {
		name, token string
		after       time.Duration
		want        string // in the error; empty for none
	}{
		{"good", token, 0, ""},
		{"clock a little behind", token, -time.Minute, ""},
		{"clock a little ahead", token, 119 * time.Second, ""},
		{"expired", token, 121 * time.Second, "good until"},
		{"from the future", token, -61 * time.Second, "good until"},
		{"another relay's", sign(t, kp, "other.example"), 0, `"other.example"`},
		{"no relay's", sign(t, kp, ""), 0, "not a name of this relay"},
		{"unknown key", sign(t, newKey(t), "relay.example"), 0, "of no cluster"},
		{"not an agent's key", sign(t, account, "relay.example"), 0, "not signed by an agent's key"},
		{"empty", "", 0, "not one"},
		{"algorithm none", plain + "." + parts[1] + ".", 0, "not one"},
		{"no signature", parts[0] + "." + parts[1] + ".", 0, "signature is wrong"},
		{"other claims", parts[0] + "." + encoding.EncodeToString(forged) + "." + parts[2], 0, "not signed by"},
		{"altered", parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])), 0, "signature is wrong"},
		{"not base64", parts[0] + ".!." + parts[2], 0, "altered"},
		{"broken in lines", token + "\n", 0, "not one"},
		{"huge", strings.Repeat("a", maxToken+1), 0, "too long"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cluster, err := verifier(t, kp, noon.Add(tc.after)).Verify(tc.token)
			switch {
			case tc.want == "" && (err != nil || cluster != "c1"):
				t.Errorf("cluster %q, error %v", cluster, err)
			case tc.want != "" && (err == nil || cluster != "" || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("cluster %q, error %v; want an error with %q", cluster, err, tc.want)
			}
		})
	}
}

// FuzzVerify: nothing but the token itself is taken, and nothing panics.
func FuzzVerify(f *testing.F) {
	kp := newKey(f)
	token := sign(f, kp, "relay.example")
	v := verifier(f, kp, noon)
	f.Add(token)
	f.Add(header + ".e30.AAAA")
	f.Add(header + "." + strings.Split(token, ".")[1] + ".")
	f.Fuzz(func(t *testing.T, altered string) {
		if _, err := v.Verify(altered); err == nil && altered != token {
			t.Errorf("%q was taken", altered)
		}
	})
}
