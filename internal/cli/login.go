package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/version"
)

type loginCommand struct {
	URL       string `name:"url" help:"Where the relay is; by default where it was at the last login." placeholder:"https://HOST:PORT"`
	CAFile    string `name:"ca-file" help:"The authority of the relay's certificate in PEM, unless this machine trusts it." placeholder:"FILE"`
	TokenFile string `help:"Where the token is; - for stdin. By default it is asked for on a terminal, else read from stdin." placeholder:"FILE"`
	output
}

// Run checks the token with the relay before it is kept.
func (c *loginCommand) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	file, err := a.ownConfig()
	if err != nil {
		return err
	}
	cfg, err := c.relay(file)
	if err != nil {
		return err
	}
	if cfg.Token, err = c.token(ctx, a); err != nil {
		return err
	}
	relay, err := client.New(cfg, client.Options{UserAgent: "trainrelay/" + version.Short(), Proxy: a.proxy()})
	if err != nil {
		return usage{err, ""}
	}
	a.relay = relay
	who, err := relay.WhoAmI(ctx)
	if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) {
		hint := "give the relay's authority with --ca-file FILE: tls/ca.crt in the data folder of `trainrelay serve`, from somebody you trust"
		if c.CAFile != "" {
			hint = c.CAFile + " is not the authority of this relay's certificate: get tls/ca.crt from its data folder"
		}
		return hinted{err, hint}
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("write the client's configuration: %w", err)
	}
	if err := cfg.Save(file); err != nil {
		return err
	}
	a.notef("logged in to %s as %s (%s); kept in %s", cfg.URL, oneLine(who.Name), oneLine(string(who.Role)), file)
	return a.print(c.output, who, formatNone, nil)
}

// relay is where to log in and whom to trust there. What the last login knew
// of the same relay need not be said again.
func (c *loginCommand) relay(file string) (client.Config, error) {
	cfg := client.Config{URL: c.URL}
	if last, err := client.LoadConfig(file); err == nil && (c.URL == "" || c.URL == last.URL) {
		cfg.URL, cfg.CA = last.URL, last.CA
	}
	if cfg.URL == "" {
		return cfg, usage{errors.New("which relay is missing"), "add --url https://HOST:PORT"}
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return cfg, usage{fmt.Errorf("--ca-file: %w", err), ""}
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return cfg, usage{fmt.Errorf("--ca-file: %s has no certificate in PEM", c.CAFile), ""}
		}
		cfg.CA = string(pem)
	}
	return cfg, nil
}

// maxToken bounds what is read as a token.
const maxToken = 4 << 10

// token asks for the token, or reads it. It never comes from the command line,
// which others on the machine can see.
func (c *loginCommand) token(ctx context.Context, a *app) (string, error) {
	var (
		text []byte
		err  error
		from = "stdin"
	)
	switch {
	case c.TokenFile == "" && a.io.Password != nil:
		from = "the terminal"
		text, err = a.io.Password(ctx, "token: ")
	case c.TokenFile == "" || c.TokenFile == "-":
		if a.io.In == nil {
			return "", usage{errors.New("there is no stdin to read the token from"), "add --token-file FILE"}
		}
		text, err = io.ReadAll(io.LimitReader(a.io.In, maxToken))
	default:
		from = c.TokenFile
		var file *os.File
		if file, err = os.Open(c.TokenFile); err == nil {
			text, err = io.ReadAll(io.LimitReader(file, maxToken))
			err = errors.Join(err, file.Close())
		}
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", usage{fmt.Errorf("read the token: %w", err), ""}
	}
	return parseToken(text, from)
}

// parseToken takes the blanks off a token. No error repeats what may be one.
func parseToken(text []byte, from string) (string, error) {
	token := string(bytes.TrimSpace(text))
	switch {
	case token == "":
		return "", usage{fmt.Errorf("no token came from %s", from), "an admin makes one: trainrelay token create"}
	case len(text) == maxToken, strings.ContainsFunc(token, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r > unicode.MaxASCII }):
		return "", usage{fmt.Errorf("what came from %s is not a token", from), "it is one word, which begins with trt_; a client.json is put in its place as it is"}
	case strings.HasPrefix(token, "trj_"):
		return "", usage{fmt.Errorf("what came from %s is a token with which a cluster joins", from), "a user's begins with trt_; an admin makes one: trainrelay token create"}
	}
	return token, nil
}

type whoamiCommand struct{ output }

func (c *whoamiCommand) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	who, err := relay.WhoAmI(ctx)
	if err != nil {
		return err
	}
	return a.print(c.output, who, formatJSON, []column{{"Name", "name"}, {"Role", "role"}, {"Expires", "expires"}})
}
