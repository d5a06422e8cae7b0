package join

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/protocol"
)

// Keys of the Secret.
const (
	credentialsKey = "credentials.json"
	pendingKey     = "pending.json"
)

// maxToken bounds the file of a token; a real one has some 70 bytes.
const maxToken = 4 << 10

// tries bounds how often a change meets one of another pod before it is left
// for later.
const tries = 10

// howToJoin is what people have to do where there is no token that can be used.
const howToJoin = "run `trainrelay cluster connect --name NAME` and give the token that it prints to the chart, as join.token"

// state is the Secret as it was read.
type state struct{ secret *corev1.Secret }

func (j *Join) read(ctx context.Context) (state, error) {
	secret, err := j.o.Secrets.Get(ctx, j.o.Secret, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return state{}, fmt.Errorf("there is no Secret %s, which the chart makes: install or upgrade the chart", j.o.Secret)
	case apierrors.IsForbidden(err):
		return state{}, fmt.Errorf("read Secret %s: %w: the agent's Role lacks it, upgrade the chart", j.o.Secret, err)
	case err != nil:
		return state{}, fmt.Errorf("read Secret %s: %w", j.o.Secret, err)
	}
	return state{secret}, nil
}

// credentials are those in the Secret, or why there are none.
func (s state) credentials() (Credentials, error) {
	data, ok := s.secret.Data[credentialsKey]
	if !ok {
		return Credentials{}, fmt.Errorf("there are no credentials and no join token: %s", howToJoin)
	}
	var c Credentials
	err := decode(data, &c)
	if err == nil {
		err = c.validate()
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("%s in Secret %s cannot be used: %w: %s", credentialsKey, s.secret.Name, err, howToJoin)
	}
	return c, nil
}

// pending are the keys of a join with the token that was begun and not
// finished.
func (s state) pending(token protocol.JoinToken) (pending, bool) {
	var p pending
	if decode(s.secret.Data[pendingKey], &p) != nil || p.TokenID != token.ID() {
		return pending{}, false
	}
	_, err := p.request(token)
	return p, err == nil
}

// token reads the file of the join token; nil where there is none.
func (j *Join) token() (*protocol.JoinToken, error) {
	if j.o.TokenFile == "" {
		return nil, nil
	}
	file, err := os.Open(j.o.TokenFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("join token: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxToken))
	if err != nil {
		return nil, fmt.Errorf("join token: %w", err)
	}
	if len(text) == 0 {
		return nil, nil
	}
	token, err := protocol.ParseJoinToken(string(text))
	if err != nil {
		return nil, fmt.Errorf("join token: %w", err)
	}
	return &token, nil
}

// begin writes keys to join with, before anybody hears of them. Where some pod
// has begun with this token, begun is false.
func (j *Join) begin(ctx context.Context, token protocol.JoinToken, now state) (keys pending, begun bool, err error) {
	if _, theirs := now.pending(token); theirs {
		return keys, false, nil
	}
	if keys, err = newPending(token); err != nil {
		return keys, false, err
	}
	err = j.change(ctx, func(s state) error {
		have, err := s.credentials()
		if _, theirs := s.pending(token); theirs || err == nil && have.JoinedWith == token.ID() {
			return errTheirs
		}
		return s.put(pendingKey, keys)
	})
	if errors.Is(err, errTheirs) {
		return keys, false, nil
	}
	return keys, err == nil, err
}

var (
	errTheirs = errors.New("another pod came first")
	errOthers = errors.New("another join has begun meanwhile")
)

// finish writes the credentials that the relay's answer makes of the keys, and
// returns those that count, which another pod may have written.
func (j *Join) finish(ctx context.Context, token protocol.JoinToken, keys pending, answer *protocol.Enrolment) (Credentials, error) {
	var made Credentials
	err := j.change(ctx, func(s state) error {
		before, err := s.credentials()
		if err == nil && before.JoinedWith == token.ID() {
			made = before
			return errTheirs
		}
		if theirs, ok := s.pending(token); !ok || theirs.Seed != keys.Seed {
			return errOthers
		}
		if made, err = keys.credentials(answer, before); err != nil {
			return fmt.Errorf("the relay's answer: %w", err)
		}
		delete(s.secret.Data, pendingKey)
		return s.put(credentialsKey, made)
	})
	if errors.Is(err, errTheirs) {
		err = nil
	}
	return made, err
}

// SaveTrust keeps what is to be trusted from now on, for the credentials of.
// Nothing is saved for others: they have a trust of their own.
func (j *Join) SaveTrust(ctx context.Context, of Credentials, trust protocol.Trust) error {
	if err := checkTrust(&trust); err != nil {
		return fmt.Errorf("save what to trust: %w", err)
	}
	return j.change(ctx, func(s state) error {
		have, err := s.credentials()
		if err != nil {
			return err
		}
		if have.Seed != of.Seed {
			return errors.New("save what to trust: the cluster has joined anew meanwhile")
		}
		have.Trust = trust
		return s.put(credentialsKey, have)
	})
}

// LoadTrust is what was saved last for the credentials of.
func (j *Join) LoadTrust(ctx context.Context, of Credentials) (protocol.Trust, error) {
	now, err := j.read(ctx)
	if err != nil {
		return protocol.Trust{}, err
	}
	have, err := now.credentials()
	if err == nil && have.Seed != of.Seed {
		err = errors.New("read what to trust: the cluster has joined anew meanwhile")
	}
	return have.Trust, err
}

// change is a compare-and-set: edit is called with what the Secret holds, as
// often as another pod changes it in between.
func (j *Join) change(ctx context.Context, edit func(state) error) error {
	for range tries {
		now, err := j.read(ctx)
		if err != nil {
			return err
		}
		if now.secret.Data == nil {
			now.secret.Data = make(map[string][]byte)
		}
		if err := edit(now); err != nil {
			return err
		}
		_, err = j.o.Secrets.Update(ctx, now.secret, metav1.UpdateOptions{})
		switch {
		case err == nil:
			return nil
		case !apierrors.IsConflict(err):
			return fmt.Errorf("write Secret %s: %w", j.o.Secret, err)
		}
		if err := sleep(ctx, j.others/tries); err != nil {
			return err
		}
	}
	return fmt.Errorf("write Secret %s: others change it all the time", j.o.Secret)
}

// put sets a key of the Secret as it will be written.
func (s state) put(key string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	s.secret.Data[key] = data
	return nil
}
