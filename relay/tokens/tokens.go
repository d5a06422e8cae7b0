// Package tokens makes and reads the tokens by which users are let in to the
// relay's API.
//
// A token is handed out once; what is kept is its SHA-256, from which it cannot
// be told (it has 256 random bits, so a slow hash would add nothing). The
// records keep the digests of users' tokens. That of the first administrator,
// who owns the machine, is kept here, in a file of the relay's folder: it lets
// in where there is no other token yet or none any more. A lost one is replaced
// by removing the file and starting again.
package tokens

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Admin is the name of the user whose token is made at the first start.
const Admin = "admin"

// prefix lets people and scanners of leaked secrets tell what it is.
const prefix = "trt_"

// size is that of the secret, in bytes.
const size = 32

// New makes a token.
func New() (token, digest string) {
	var secret [size]byte
	_, _ = rand.Read(secret[:]) // it never fails
	token = prefix + base64.RawURLEncoding.EncodeToString(secret[:])
	return token, digestOf(token)
}

// Digest is what is kept of a token. ok is false for what cannot be one.
func Digest(token string) (digest string, ok bool) {
	text, ok := strings.CutPrefix(token, prefix)
	if !ok || len(text) != base64.RawURLEncoding.EncodedLen(size) {
		return "", false
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(text); err != nil || strings.ContainsAny(text, "\r\n") {
		return "", false
	}
	return digestOf(token), true
}

func digestOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// First knows the digest of the first administrator's token.
type First struct{ digest string }

// File is where the digest of the administrator's token lies.
func File(dir string) string { return filepath.Join(dir, "admin.sha256") }

// Open reads the digest from the folder. Where there is none yet it makes a
// token, hands it to deliver, and keeps its digest once that has succeeded.
func Open(dir string, deliver func(token string) error) (*First, error) {
	text, err := os.ReadFile(File(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return create(dir, deliver)
	}
	if err != nil {
		return nil, fmt.Errorf("read the administrator's token: %w", err)
	}
	sum, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("read the administrator's token: %s is damaged: remove it, and the next start makes a new token", File(dir))
	}
	return &First{digest: hex.EncodeToString(sum)}, nil
}

func create(dir string, deliver func(string) error) (*First, error) {
	token, digest := New()
	if err := deliver(token); err != nil {
		return nil, fmt.Errorf("make the administrator's token: %w", err)
	}
	tmp := File(dir) + ".new"
	err := os.WriteFile(tmp, []byte(digest+"\n"), 0o600)
	if err == nil {
		err = os.Rename(tmp, File(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("make the administrator's token: %w", err)
	}
	return &First{digest: digest}, nil
}

// Is reports whether it is the first administrator's token that has the
// digest. It takes as long for every wrong one.
func (f *First) Is(digest string) bool {
	return subtle.ConstantTimeCompare([]byte(digest), []byte(f.digest)) == 1
}
