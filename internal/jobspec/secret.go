package jobspec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/trainrelay/trainrelay/protocol"
)

// secretsWord begins an expression that stands for a secret.
const secretsWord = "secrets"

// variablesKey is the one place for them.
const variablesKey = "environment_variables"

// secret is what an expression on secrets names, with its word; empty for any
// other segment.
func secret(s segment) string {
	word, _, _ := strings.Cut(s.body, ".")
	if s.marker == exprOpen && !s.open && strings.TrimSpace(word) == secretsWord {
		return s.body
	}
	return ""
}

// strayed reports secrets where the text is kept and shown: everywhere but in
// the values of variables.
func (c *checker) strayed(n *node, key string) {
	for _, e := range n.entries {
		if key != variablesKey {
			c.strayed(e.value, join(key, e.key))
		}
	}
	if key == "" || !n.scalar() {
		return
	}
	for _, s := range scan(n.text) {
		if secret(s) != "" {
			c.report(c.marker(n, s.nth), key, fmt.Sprintf("a secret in %s: its value would be in the job's record, for all to read", key),
				"set environment_variables: {NAME: ${{secrets.NAME}}}, and use $NAME in the command")
			return
		}
	}
}

// takeSecrets moves the variables that are secrets from the job's variables to
// the specification's secrets.
func (c *checker) takeSecrets(n *node, key string) {
	if n.kind != mappingKind {
		return
	}
	for _, e := range n.entries {
		dotted := join(key, e.key)
		if !e.value.scalar() {
			continue
		}
		segments := scan(e.value.text)
		i := slices.IndexFunc(segments, func(s segment) bool { return secret(s) != "" })
		if i < 0 {
			continue
		}
		name, named := strings.CutPrefix(segments[i].body, secretsWord+".")
		alone := !slices.ContainsFunc(slices.Delete(slices.Clone(segments), i, i+1), func(s segment) bool { return s.marker != "" || strings.TrimSpace(s.literal) != "" })
		at := c.marker(e.value, segments[i].nth)
		delete(c.spec.Job.Env, e.key)
		switch {
		case !named || !inputRE.MatchString(name):
			c.report(at, dotted, fmt.Sprintf("%s is not an expression", quote("${{"+segments[i].body+"}}")), "write ${{secrets.NAME}}; a name has letters, digits and _")
			continue
		case !alone:
			c.report(at, dotted, fmt.Sprintf("a secret has to be all of %s, with nothing beside it", dotted), "put what is around it into the secret's value")
		case !c.opts.AnySecret && !slices.Contains(c.opts.Secrets, name):
			c.report(at, dotted, fmt.Sprintf("there is no value for secret %s", name),
				fmt.Sprintf("add --secret %s, which takes it from the environment, or --secret %s=@FILE", name, name))
		}
		if c.spec.Secrets == nil {
			c.spec.Secrets = make(map[string]string)
		}
		c.spec.Secrets[e.key] = name
	}
	if len(c.spec.Secrets) > protocol.MaxSecrets {
		c.report(n.at, key, fmt.Sprintf("%s has %d secrets; at most %d are allowed", key, len(c.spec.Secrets), protocol.MaxSecrets), "")
	}
	if len(c.spec.Job.Env) == 0 {
		c.spec.Job.Env = nil
	}
}

// unused reports values that no variable asks for.
func (c *checker) unused() {
	used := slices.Collect(maps.Values(c.spec.Secrets))
	for _, name := range c.opts.Secrets {
		if !slices.Contains(used, name) {
			c.report(place{arg: "--secret " + name}, "", fmt.Sprintf("no variable of the job is ${{secrets.%s}}", name),
				fmt.Sprintf("add environment_variables: {%s: ${{secrets.%s}}}, or leave the option out", name, name))
		}
	}
}
