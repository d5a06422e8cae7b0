package broker

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
)

var update = flag.Bool("update", false, "write the golden files")

// TestConfig: what is printed for a server of one's own; the server takes it,
// and it holds no secret.
func TestConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	keys, err := MakeKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := Server{Listen: "127.0.0.1:4222", WebsocketListen: "127.0.0.1:8080", StoreDir: `/srv/nats "1"`}.Config(keys)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "server.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if o.StoreDir != `/srv/nats "1"` || o.AuthCallout == nil || !o.SyncAlways || len(o.Nkeys) != 2 || o.SystemAccount != "SYS" {
		t.Errorf("the server reads %+v", o)
	}
	golden := filepath.Join("testdata", "server.conf")
	got := regexp.MustCompile(`\b[UA][A-Z2-7]{55}\b`).ReplaceAllStringFunc(text, func(key string) string {
		for _, f := range keys.files() {
			if public(*f.key) == key {
				return "PUBLIC_" + strings.TrimSuffix(f.name, ".nk")
			}
		}
		return key
	})
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
	for _, f := range keys.files() {
		seed, err := os.ReadFile(filepath.Join(dir, f.name))
		if err != nil || strings.Contains(text, strings.TrimSpace(string(seed))) {
			t.Errorf("%s: %v", f.name, err)
		}
		if info, err := os.Stat(filepath.Join(dir, f.name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", f.name, info.Mode(), err)
		}
	}
	again, err := MakeKeys(dir)
	if err != nil || public(again.relay) != public(keys.relay) || public(again.issuer) != public(keys.issuer) {
		t.Errorf("the keys changed: %v", err)
	}
}

// TestNoServerWithoutTLS: nobody is told to run one that is reached from afar.
func TestNoServerWithoutTLS(t *testing.T) {
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Server{{}, {Listen: "10.0.0.1:4222"}, {Listen: "127.0.0.1:1", WebsocketListen: ":8080"}, {TLSCert: "tls.crt"}} {
		if _, err := s.Config(keys); err == nil || !strings.Contains(err.Error(), "--tls-cert") {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if _, err := (Server{TLSCert: "tls.crt", TLSKey: "tls.key"}).Config(keys); err != nil {
		t.Error(err)
	}
}

// TestBadKeys: a folder that is not right is named, and what is in its files
// is not told.
func TestBadKeys(t *testing.T) {
	dir := t.TempDir()
	if _, err := LoadKeys(dir); err == nil || !strings.Contains(err.Error(), "trainrelay nats config --keys") {
		t.Errorf("of an empty folder: %v", err)
	}
	keys, err := MakeKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := keys.relay.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "issuer.nk"), seed, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, load := range []func(string) (*Keys, error){LoadKeys, MakeKeys} {
		if _, err := load(dir); err == nil || !strings.Contains(err.Error(), "issuer.nk") || strings.Contains(err.Error(), string(seed)) {
			t.Errorf("a user's seed for the issuer: %v", err)
		}
	}
}
