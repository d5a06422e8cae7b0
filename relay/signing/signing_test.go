package signing

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/protocol"
)

func open(t *testing.T, dir string) *Keys {
	t.Helper()
	k, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rotate(t *testing.T, k *Keys) string {
	t.Helper()
	key, err := k.Rotate("admin")
	if err != nil {
		t.Fatal(err)
	}
	return key.ID
}

func currentID(k *Keys) string { return k.Current().Public().ID() }

func TestFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "signing")
	k := open(t, dir)
	for name, want := range map[string]fs.FileMode{dir: 0o700, file(dir): 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if again := open(t, dir); currentID(again) != currentID(k) {
		t.Error("a restart made another key")
	}
}

// TestRotation: an agent is answered with the newest key that it trusts, at
// every step of a rotation, and across restarts.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	k := open(t, dir)
	first := currentID(k)
	second := rotate(t, k)
	for name, k := range map[string]*Keys{"running": k, "restarted": open(t, dir)} {
		for _, tc := range []struct {
			trusted []string
			want    string
		}{
			{nil, second},
			{[]string{"0123456789abcdef"}, second},
			{[]string{first}, first},
			{[]string{first, second}, second},
			{[]string{second, first}, second},
		} {
			if got := k.For(tc.trusted).Public().ID(); got != tc.want {
				t.Errorf("%s: an agent that trusts %v is answered with %s, want %s", name, tc.trusted, got, tc.want)
			}
		}
		trust := k.Trust("PEM")
		if len(trust.Keys) != 2 || trust.Keys[0].ID() != first || trust.Keys[1].ID() != second || trust.CA != "PEM" || trust.Validate() != nil {
			t.Errorf("%s: %+v", name, trust)
		}
		list := k.List()
		if len(list) != 2 || list[0].Current || !list[1].Current || list[1].By != "admin" || list[1].ID != second || list[1].Created.IsZero() {
			t.Errorf("%s: %+v", name, list)
		}
	}
	if _, err := k.Retire(first, nil, false); err != nil {
		t.Fatal(err)
	}
	if got := open(t, dir).For([]string{first}).Public().ID(); got != second {
		t.Errorf("a retired key still signs: %s", got)
	}
}

func TestRetireIsRefused(t *testing.T) {
	k := open(t, t.TempDir())
	first := currentID(k)
	if _, err := k.Retire(first, nil, true); !errors.Is(err, ErrNeeded) || !strings.Contains(err.Error(), "trainrelay key rotate") {
		t.Errorf("the only key: %v", err)
	}
	if _, err := k.Retire("nothing", nil, true); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown key: %v", err)
	}
	second := rotate(t, k)
	clusters := map[string][]string{
		"behind": {first}, "also-behind": {first, "lost"}, "ahead": {first, second}, "elsewhere": {"lost"}, "never": nil,
	}
	stranded, err := k.Retire(first, clusters, false)
	if !errors.Is(err, ErrNeeded) || !strings.Contains(err.Error(), "also-behind, behind") || !strings.Contains(err.Error(), "--force") {
		t.Errorf("a key that clusters need: %v", err)
	}
	want := []string{"also-behind", "behind"}
	if diff := cmp.Diff(want, stranded); diff != "" || len(k.List()) != 2 {
		t.Errorf("%s, %d keys", diff, len(k.List()))
	}
	stranded, err = k.Retire(first, clusters, true)
	if diff := cmp.Diff(want, stranded); diff != "" || err != nil || len(k.List()) != 1 {
		t.Errorf("by force: %v, %s, %d keys", err, diff, len(k.List()))
	}
}

// TestKeysAreBounded: no more than agents take, and what to do then.
func TestKeysAreBounded(t *testing.T) {
	k := open(t, t.TempDir())
	first := currentID(k)
	for range protocol.MaxRelayKeys - 1 {
		rotate(t, k)
	}
	if _, err := k.Rotate("admin"); !errors.Is(err, ErrNeeded) || !strings.Contains(err.Error(), first) {
		t.Errorf("one key too many: %v", err)
	}
}

// TestLostKeys: a key that clusters trust is never replaced silently.
func TestLostKeys(t *testing.T) {
	dir := t.TempDir()
	first := currentID(open(t, dir))
	whole, err := os.ReadFile(file(dir))
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	open(t, other)
	foreign, err := os.ReadFile(file(other))
	if err != nil {
		t.Fatal(err)
	}
	seed := func(data []byte) []byte { return data[bytes.Index(data, []byte(`"seed"`)):] }
	for name, data := range map[string][]byte{
		"empty":             {},
		"cut":               whole[:len(whole)/2],
		"zeroed":            make([]byte, len(whole)),
		"without keys":      []byte(`{"keys":[]}`),
		"of another seed":   append(bytes.TrimSuffix(whole, seed(whole)), seed(foreign)...),
		"of a short seed":   bytes.Replace(whole, []byte(`"seed": "`), []byte(`"seed": "AAAA`), 1),
		"not ours":          []byte(`[]`),
		"beyond all bounds": append(bytes.Repeat([]byte(" "), maxFile), whole...),
	} {
		if err := os.WriteFile(file(dir), data, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, trusting := range [][]string{nil, {"onprem-1"}} {
			_, err := Open(Options{Dir: dir, Trusting: trusting, Anew: true})
			if err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
				t.Errorf("%s: %v", name, err)
			}
			if now, _ := os.ReadFile(file(dir)); !bytes.Equal(now, data) {
				t.Errorf("%s: the file was touched", name)
			}
		}
	}
	if err := os.Remove(file(dir)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Options{Dir: dir, Trusting: []string{"onprem-1"}})
	if err == nil || !strings.Contains(err.Error(), "onprem-1") || !strings.Contains(err.Error(), "--new-signing-key") {
		t.Errorf("missing: %v", err)
	}
	if _, err := os.Stat(file(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made: %v", err)
	}
	k, err := Open(Options{Dir: dir, Trusting: []string{"onprem-1"}, Anew: true})
	if err != nil || currentID(k) == first {
		t.Errorf("anew: %v", err)
	}
}

// TestUnwritten: a change that is not on disk does not count.
func TestUnwritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "signing")
	k := open(t, dir)
	first := currentID(k)
	second := rotate(t, k)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // no folder can be made there
		t.Fatal(err)
	}
	if _, err := k.Rotate("admin"); err == nil {
		t.Error("a key was made that is nowhere")
	}
	if _, err := k.Retire(first, nil, true); err == nil {
		t.Error("a key was retired that a restart brings back")
	}
	if list := k.List(); len(list) != 2 || currentID(k) != second {
		t.Errorf("%+v", list)
	}
}

// FuzzFile: whatever the file holds, it is refused or holds keys that match
// their IDs.
func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	if _, err := Open(Options{Dir: dir}); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(file(dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"keys":[{"id":"","seed":""}]}`))
	f.Add([]byte(`{"keys":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parse(data)
		if err == nil && (len(keys) == 0 || len(keys) > protocol.MaxRelayKeys) {
			t.Errorf("%d keys of %q", len(keys), data)
		}
	})
}
