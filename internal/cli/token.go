package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

type tokenCommands struct {
	Create tokenCreate `cmd:"" help:"Make a token for somebody, or for a program."`
	List   tokenList   `cmd:"" help:"List the tokens; what they are is not kept."`
	Revoke tokenRevoke `cmd:"" help:"Void a token at once."`
}

var tokenColumns = []column{
	{"Name", "name"}, {"Role", "role"}, {"Status", "status"}, {"Expires", "expires"},
	{"Created", "creation_context.created_at"}, {"By", "creation_context.created_by"},
}

type tokenCreate struct {
	target
	Role       string `required:"" enum:"admin,contributor,reader" help:"What it may do: a reader sees everything but tokens and the audit log, a contributor also submits and cancels jobs, an admin may do all." placeholder:"ROLE"`
	ExpiresIn  span   `default:"90d" help:"How long it is good for, such as 12h or 30d; from 1h to 3650d." placeholder:"TIME"`
	ClientFile string `help:"Write a client configuration with the token to this new file, readable by you alone, instead of printing it." placeholder:"FILE"`
	output
}

func (c *tokenCreate) Run(ctx context.Context, a *app) error {
	name, err := c.name()
	if err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	if c.ClientFile == "" {
		if err := c.showsToken(name); err != nil {
			return err
		}
	}
	relay, cfg, err := a.connectWith()
	if err != nil {
		return err
	}
	// The token is shown once, so there must be a place for it before it is made.
	if err := newFile(c.ClientFile); err != nil {
		return err
	}
	token, err := relay.CreateToken(ctx, v1.TokenSettings{Name: name, Role: v1.Role(c.Role), ExpiresIn: int64(time.Duration(c.ExpiresIn) / time.Second)})
	if err != nil {
		if c.ClientFile != "" {
			err = errors.Join(err, os.Remove(c.ClientFile))
		}
		if refused := (*client.APIError)(nil); errors.As(err, &refused) && refused.Status == http.StatusConflict {
			return hinted{err, "to replace it: trainrelay token revoke -n " + name + ", then make it again"}
		}
		return err
	}
	if c.ClientFile == "" {
		err = a.print(c.output, token, formatJSON, tokenColumns)
	} else {
		err = client.Config{URL: cfg.URL, Token: token.Secret, CA: cfg.CA}.Save(c.ClientFile)
	}
	if err != nil {
		return hinted{fmt.Errorf("token %s was made, but it is lost: %w", name, err), "trainrelay token revoke -n " + name + ", then make it again"}
	}
	if c.ClientFile == "" {
		a.notef("the token is shown this once; who gets it: trainrelay login --url %s", cfg.URL)
		return nil
	}
	a.notef("%s has the token; who gets it puts it at ~/.config/trainrelay/client.json, or names it in TRAINRELAY_CONFIG", c.ClientFile)
	return a.print(c.output, token.Token, formatJSON, tokenColumns)
}

// showsToken tries on a token that is made up whether what is printed would
// have it: afterwards it is too late.
func (c *tokenCreate) showsToken(name string) error {
	return c.shows(v1.NewToken{Token: v1.Token{Name: name}, Secret: madeUp}, tokenColumns,
		"add --client-file FILE, or print the token alone: --query token -o tsv")
}

// madeUp stands for a token that is not made yet.
const madeUp = "made-up-token"

// shows reports whether the output of v, in which a token is made up, has it.
func (o output) shows(v any, columns []column, hint string) error {
	text, err := o.render(v, formatJSON, columns)
	if err != nil {
		return err
	}
	if !bytes.Contains(text, []byte(madeUp)) {
		return usage{errors.New("the token would be lost: it is shown only once, and not by this --output and --query"), hint}
	}
	return nil
}

// newFile makes an empty file, for its owner only, that must not exist.
func newFile(name string) error {
	if name == "" {
		return nil
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return usage{fmt.Errorf("--client-file: %s exists", name), "an earlier token may be in it: move it away, or name another file"}
	}
	if err != nil {
		return usage{fmt.Errorf("--client-file: %w", err), ""}
	}
	return file.Close()
}

type tokenList struct{ output }

func (c *tokenList) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	tokens, err := relay.Tokens(ctx)
	if err != nil {
		return err
	}
	return a.print(c.output, tokens, formatTable, tokenColumns)
}

type tokenRevoke struct{ target }

func (c *tokenRevoke) Run(ctx context.Context, a *app) error {
	name, relay, err := a.begin(c.target, output{})
	if err != nil {
		return err
	}
	if err := relay.RevokeToken(ctx, name); err != nil {
		return hinted{err, "`trainrelay token list` shows what there is"}
	}
	a.notef("token %s is void; jobs that were submitted with it go on", name)
	return nil
}

// span is a time such as 90d, 12h or 30m.
type span time.Duration

// UnmarshalText reads a span.
func (s *span) UnmarshalText(text []byte) error {
	wrong := fmt.Errorf("%q is not a time such as 90d, 12h or 30m", text)
	if len(text) < 2 {
		return wrong
	}
	unit := map[byte]time.Duration{'d': 24 * time.Hour, 'h': time.Hour, 'm': time.Minute}[text[len(text)-1]]
	n, err := strconv.ParseUint(string(text[:len(text)-1]), 10, 31)
	if err != nil || unit == 0 || n == 0 {
		return wrong
	}
	if n > uint64(math.MaxInt64/unit) {
		return fmt.Errorf("%q is too long", text)
	}
	*s = span(time.Duration(n) * unit)
	return nil
}
