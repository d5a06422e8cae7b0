package signing

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

// maxFile bounds what is read as a file of keys.
const maxFile = 64 << 10

// stored is a key as it lies in the file. The ID says whether the seed is the
// one that was written: any 32 bytes are some key.
type stored struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	By      string    `json:"created_by,omitempty"`
	Seed    []byte    `json:"seed"`
}

func file(dir string) string { return filepath.Join(dir, "keys.json") }

// load reads the keys; none where there is no file.
func load(dir string) ([]key, error) {
	data, err := os.ReadFile(file(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	keys, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: %w: restore it from a backup; without one, move it away and start again, which says what is lost", file(dir), err)
	}
	return keys, nil
}

// parse reads a file of keys. Its errors quote none of them.
func parse(data []byte) ([]key, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%d bytes, at most %d are expected", len(data), maxFile)
	}
	var list struct {
		Keys []stored `json:"keys"`
	}
	if json.Unmarshal(data, &list) != nil {
		return nil, errors.New("it is not JSON as it was written")
	}
	if n := len(list.Keys); n == 0 || n > protocol.MaxRelayKeys {
		return nil, fmt.Errorf("%d keys, 1 to %d are expected", n, protocol.MaxRelayKeys)
	}
	var keys []key
	for i, s := range list.Keys {
		private, err := protocol.SigningKeyFromSeed(s.Seed)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		k := key{SigningKey: private, created: s.Created, by: s.By}
		if k.id() != s.ID {
			return nil, fmt.Errorf("key %d is not the one that its ID names", i+1)
		}
		if slices.ContainsFunc(keys, func(other key) bool { return other.id() == s.ID }) {
			return nil, fmt.Errorf("key %s is there twice", s.ID)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// save replaces the file: after a crash it is the old one or the new one.
func save(dir string, keys []key) (err error) {
	list := make([]stored, len(keys))
	for i, k := range keys {
		list[i] = stored{ID: k.id(), Created: k.created, By: k.by, Seed: k.Seed()}
	}
	data, err := json.MarshalIndent(map[string]any{"keys": list}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file(dir)+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file(dir))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return errors.Join(flush(dir), flush(filepath.Dir(dir)))
}

// flush brings to disk what a folder lists.
func flush(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
