// Package join makes a cluster one of the relay's: it turns a one-time join
// token into the credentials with which the cluster's agents prove themselves,
// and keeps those in a Secret that only they can read. The private keys are made
// here and never leave the cluster.
//
// The Secret exists before the agent does, empty; all pods of the agent share
// it, and every change of it is a compare-and-set on its resourceVersion:
//
//	credentials.json   what the agents work with: see [Credentials]
//	pending.json       the keys of a join under way, written before the relay
//	                   hears of them
//
// So all pods join with one key, whoever of them comes first. A pod that dies
// at any point leaves either nothing, or keys with which the next pod asks
// again: to the same token and key the relay gives the same answer.
//
// # Whom to believe
//
// The token names the relay's signing key. An answer that is not signed with it
// is refused, so that a proxy that looks into TLS can keep a cluster from
// joining, but neither make it another's nor learn anything that lets it join
// itself.
//
// # When things fail
//
// Nothing here is fatal. What keeps the cluster from joining is logged where it
// is news, and told by [Join.Ready] with what to do about it; it is tried again
// with growing, random delays. A token that the relay refuses never takes
// credentials away that are there: they stay in use.
package join

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/rs/zerolog"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/trainrelay/trainrelay/internal/dial"
	"github.com/trainrelay/trainrelay/protocol"
)

const (
	// refusalPause is how long the relay's no to a token is taken for its last
	// word: a clock may be set right meanwhile.
	refusalPause = 5 * time.Minute
	// othersPause is how long, at most, another pod is given to finish a join that
	// it has begun.
	othersPause = 3 * time.Second
	minRetry    = time.Second
	maxRetry    = 30 * time.Second
)

// Options are what a Join is made of. All but TokenFile are required.
type Options struct {
	Relay *url.URL
	// Dial reaches the relay; what it trusts is completed with what the
	// credentials do.
	Dial dial.Options
	// Secrets are those of the agent's namespace, Secret the name of its own.
	Secrets corev1.SecretInterface
	Secret  string
	// TokenFile holds a join token, if it is there.
	TokenFile string
	Log       zerolog.Logger
}

func (o *Options) validate() error {
	var errs []error
	if o.Relay == nil || o.Relay.Host == "" {
		errs = append(errs, errors.New("no URL of the relay"))
	}
	if o.Secrets == nil || o.Secret == "" {
		errs = append(errs, errors.New("no Secret for the credentials"))
	}
	_, err := dial.New(o.Dial)
	return errors.Join(append(errs, err)...)
}

// Join gets and keeps the credentials of a cluster.
type Join struct {
	o      Options
	others time.Duration // othersPause

	mu      sync.Mutex
	problem error // why there are no credentials; nil once there are
	said    string
	refused refused
	told    error // the last complaint about a token that is not needed
	pending bool  // such a token may be of use later
}

// refused is the relay's last no to a token.
type refused struct {
	token string // its ID
	err   *Refusal
	until time.Time
}

// New checks the options. What it makes does nothing by itself.
func New(o Options) (*Join, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("join: options: %w", err)
	}
	return &Join{o: o, others: othersPause, problem: errors.New("joining is under way")}, nil
}

// Await returns the credentials as soon as there are any: those of the Secret,
// or new ones where there is a token that was not used for those. It fails
// only with ctx.
func (j *Join) Await(ctx context.Context) (Credentials, error) {
	retry := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(minRetry), backoff.WithMaxInterval(maxRetry), backoff.WithMaxElapsedTime(0),
	)
	for {
		have, err := j.Look(ctx)
		if err == nil {
			return have, nil
		}
		timer := time.NewTimer(retry.NextBackOff())
		select {
		case <-ctx.Done():
			timer.Stop()
			return Credentials{}, ctx.Err()
		case <-timer.C:
		}
	}
}

// Look is one try to get credentials, as Await makes them. The error says what
// people have to do.
func (j *Join) Look(ctx context.Context) (Credentials, error) {
	have, err := j.look(ctx)
	if ctx.Err() == nil {
		j.note(err)
	}
	return have, err
}

// Have are the credentials that are there; no token is used.
func (j *Join) Have(ctx context.Context) (Credentials, error) {
	now, err := j.read(ctx)
	if err != nil {
		return Credentials{}, err
	}
	return now.credentials()
}

// Ready says why there are no credentials; nil where there are.
func (j *Join) Ready(context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.problem == nil {
		return nil
	}
	return fmt.Errorf("not joined: %w", j.problem)
}

// note keeps what is wrong, and logs it where it is news.
func (j *Join) note(problem error) {
	j.mu.Lock()
	news := problem != nil && problem.Error() != j.said
	j.problem, j.said = problem, ""
	if problem != nil {
		j.said = problem.Error()
	}
	j.mu.Unlock()
	if news {
		j.o.Log.Warn().Err(problem).Msg("cannot get the cluster's credentials; trying again")
	}
}

func (j *Join) look(ctx context.Context) (Credentials, error) {
	now, err := j.read(ctx)
	if err != nil {
		return Credentials{}, err
	}
	have, missing := now.credentials()
	token, err := j.token()
	switch {
	case err != nil && missing == nil:
		return have, j.complain(have, err)
	case err != nil:
		return Credentials{}, err
	case token == nil:
		return have, missing
	case token.ID() == have.JoinedWith:
		return have, nil
	}
	joined, err := j.join(ctx, *token, now)
	if err != nil && missing == nil && ctx.Err() == nil {
		// An agent that could work does, whatever keeps the token from use.
		j.setPending(!errors.As(err, new(*Refusal)))
		return have, j.complain(have, err)
	}
	j.setPending(false)
	return joined, err
}

func (j *Join) setPending(pending bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending = pending
}

// Pending reports whether a token waits to be used that was not refused: to look
// again may join with it.
func (j *Join) Pending() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.pending
}

// complain logs what is wrong with a token that is not needed, since there are
// credentials, and returns nil.
func (j *Join) complain(have Credentials, problem error) error {
	j.mu.Lock()
	news := j.told == nil || j.told.Error() != problem.Error()
	j.told = problem
	j.mu.Unlock()
	if news {
		j.o.Log.Error().Err(problem).Str("cluster", have.Cluster).
			Msg("the new join token is of no use now; going on with the credentials that are there")
	}
	return nil
}

// join has the token's cluster become the one of this Secret.
func (j *Join) join(ctx context.Context, token protocol.JoinToken, now state) (Credentials, error) {
	if err := j.lastWord(token); err != nil {
		return Credentials{}, err
	}
	keys, begun, err := j.begin(ctx, token, now)
	if err != nil {
		return Credentials{}, err
	}
	if !begun {
		// Another pod is about to finish, or died: waiting a little heals both.
		if err := sleep(ctx, j.others); err != nil {
			return Credentials{}, err
		}
		if now, err = j.read(ctx); err != nil {
			return Credentials{}, err
		}
		if have, err := now.credentials(); err == nil && have.JoinedWith == token.ID() {
			return have, nil
		}
		if keys, begun = now.pending(token); !begun {
			return Credentials{}, errOthers
		}
	}
	trusted, _ := now.credentials() // the zero value where there are none
	answer, err := j.enrol(ctx, token, keys, trusted.Trust.CA)
	if refusal := new(Refusal); errors.As(err, &refusal) {
		j.mu.Lock()
		j.refused = refused{token.ID(), refusal, time.Now().Add(refusalPause)}
		j.mu.Unlock()
	}
	if err != nil {
		return Credentials{}, err
	}
	have, err := j.finish(ctx, token, keys, answer)
	if err == nil {
		j.o.Log.Info().Str("cluster", have.Cluster).Str("token", shortID(token)).Msg("this cluster has joined the relay")
	}
	return have, err
}

// lastWord is the relay's no to the token, as long as it is fresh.
func (j *Join) lastWord(token protocol.JoinToken) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.refused.token == token.ID() && time.Now().Before(j.refused.until) {
		return j.refused.err
	}
	return nil
}

// shortID tells tokens apart in a log; the relay's records have the same.
func shortID(token protocol.JoinToken) string { return token.ID()[:16] }

// sleep waits a random while, of up to most.
func sleep(ctx context.Context, most time.Duration) error {
	timer := time.NewTimer(rand.N(most))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
