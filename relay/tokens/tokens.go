// Package tokens keeps who may use the relay's API.
//
// There is one token so far, the administrator's. It is made at the first
// start and handed out once; what stays in the folder is its SHA-256, from
// which it cannot be told (it has 256 random bits, so a slow hash would add
// nothing). A lost token is replaced by removing the file and starting again.
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

// Tokens knows the digests of the tokens.
type Tokens struct{ admin [sha256.Size]byte }

// File is where the digest of the administrator's token lies.
func File(dir string) string { return filepath.Join(dir, "admin.sha256") }

// Open reads the digests from the folder. Where there is none yet it makes a
// token, hands it to deliver, and keeps its digest once that has succeeded.
func Open(dir string, deliver func(token string) error) (*Tokens, error) {
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
	return &Tokens{admin: [sha256.Size]byte(sum)}, nil
}

func create(dir string, deliver func(string) error) (*Tokens, error) {
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, fmt.Errorf("make the administrator's token: %w", err)
	}
	token := prefix + base64.RawURLEncoding.EncodeToString(secret[:])
	if err := deliver(token); err != nil {
		return nil, fmt.Errorf("make the administrator's token: %w", err)
	}
	t := &Tokens{admin: sha256.Sum256([]byte(token))}
	tmp := File(dir) + ".new"
	err := os.WriteFile(tmp, []byte(hex.EncodeToString(t.admin[:])+"\n"), 0o600)
	if err == nil {
		err = os.Rename(tmp, File(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("make the administrator's token: %w", err)
	}
	return t, nil
}

// User is whose token it is. It takes as long for every wrong token.
func (t *Tokens) User(token string) (name string, ok bool) {
	sum := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(sum[:], t.admin[:]) != 1 {
		return "", false
	}
	return Admin, true
}
