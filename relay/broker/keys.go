package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nkeys"
)

// Keys are the relay's own at its NATS server, which knows the public halves
// only.
type Keys struct {
	relay  nkeys.KeyPair // of the connection that does the work
	system nkeys.KeyPair // of the connection that sees and cuts connections
	issuer nkeys.KeyPair // signs what an agent may do
	check  nkeys.KeyPair // of an agent of no cluster, with which a relay checks its server
}

// NewKeys makes keys.
func NewKeys() (*Keys, error) {
	k := new(Keys)
	for _, f := range k.files() {
		var err error
		if *f.key, err = f.make(); err != nil {
			return nil, fmt.Errorf("make the broker's keys: %w", err)
		}
	}
	return k, nil
}

// keyFile is where a key's seed is, and what kind of key it is.
type keyFile struct {
	name   string
	key    *nkeys.KeyPair
	make   func() (nkeys.KeyPair, error)
	prefix nkeys.PrefixByte
}

func (k *Keys) files() []keyFile {
	return []keyFile{
		{"relay.nk", &k.relay, nkeys.CreateUser, nkeys.PrefixByteUser},
		{"system.nk", &k.system, nkeys.CreateUser, nkeys.PrefixByteUser},
		{"issuer.nk", &k.issuer, nkeys.CreateAccount, nkeys.PrefixByteAccount},
		{"check.nk", &k.check, nkeys.CreateUser, nkeys.PrefixByteUser},
	}
}

// LoadKeys reads the keys in a folder.
func LoadKeys(dir string) (*Keys, error) {
	k := new(Keys)
	for _, f := range k.files() {
		if err := f.read(dir); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("%w: make the keys with `trainrelay nats config --keys %s`, whose output is the server's configuration", err, dir)
			}
			return nil, err
		}
	}
	return k, nil
}

// MakeKeys reads the keys in a folder, and makes those that are missing.
func MakeKeys(dir string) (*Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of the broker's keys: %w", err)
	}
	k := new(Keys)
	for _, f := range k.files() {
		err := f.read(dir)
		if errors.Is(err, fs.ErrNotExist) {
			err = f.write(dir)
		}
		if err != nil {
			return nil, err
		}
	}
	return k, nil
}

func (f keyFile) read(dir string) error {
	path := filepath.Join(dir, f.name)
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the relay's key at its NATS server: %w", err)
	}
	prefix, _, err := nkeys.DecodeSeed(bytes.TrimSpace(text))
	if err != nil || prefix != f.prefix {
		return fmt.Errorf("%s: not the seed of an nkey of its kind: restore it, or remove it and run `trainrelay nats config` for new keys and a new configuration", path)
	}
	*f.key, err = nkeys.FromSeed(bytes.TrimSpace(text))
	return err
}

func (f keyFile) write(dir string) error {
	key, err := f.make()
	if err != nil {
		return fmt.Errorf("make the broker's keys: %w", err)
	}
	seed, err := key.Seed()
	if err != nil {
		return fmt.Errorf("make the broker's keys: %w", err)
	}
	// Never over an existing one: two that make keys at once agree, or one fails.
	file, err := os.OpenFile(filepath.Join(dir, f.name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("keep the relay's key: %w", err)
	}
	if _, err := file.Write(append(seed, '\n')); err != nil {
		return errors.Join(fmt.Errorf("keep the relay's key: %w", err), file.Close(), os.Remove(file.Name()))
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("keep the relay's key: %w", err)
	}
	*f.key = key
	return nil
}

// public is the public half of a key that was made or read here.
func public(key nkeys.KeyPair) string {
	name, err := key.PublicKey()
	if err != nil { // only a wiped key has none
		panic(err)
	}
	return name
}
