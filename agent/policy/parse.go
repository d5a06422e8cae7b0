package policy

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/trainrelay/trainrelay/protocol"
)

// Parse reads a policy. It is strict, since what it overlooked would be
// allowed: a key that it does not know, one that is given twice or without a
// value, and a value that cannot be read are errors that name their line. The
// policy without rules is {}, not an empty file.
func Parse(src []byte, o Options) (*Policy, error) {
	if len(src) > MaxSize {
		return nil, fmt.Errorf("has more than %d bytes", MaxSize)
	}
	root, err := mapping(src)
	if err != nil {
		return nil, err
	}
	p := &Policy{o: o, ceilings: make(map[corev1.ResourceName]resource.Quantity)}
	err = each(root, func(key string, value ast.Node) error {
		switch key {
		case "images":
			p.images, err = texts(value, checkPattern)
		case "namespaces":
			p.namespaces, err = texts(value, func(name string) error { return protocol.CheckLabel("namespace", name) })
		case "maxPerJob":
			err = each(value, p.ceiling)
		default:
			err = errors.New("unknown key; known are images, namespaces and maxPerJob")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// mapping parses the one document of src.
func mapping(src []byte) (_ ast.Node, err error) {
	// A parser that meets strangers' files has had panics; one more of them
	// must not end the agent.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not YAML: the parser gave up: %v", r)
		}
	}()
	if deep(src) {
		return nil, errors.New("is nested too deep")
	}
	file, err := parser.ParseBytes(src, 0)
	if located := yaml.Error(nil); errors.As(err, &located) && located.GetToken() != nil {
		return nil, fmt.Errorf("line %d: not YAML: %s", located.GetToken().Position.Line, located.GetMessage())
	}
	if err != nil {
		return nil, fmt.Errorf("not YAML: %w", err)
	}
	docs := slices.DeleteFunc(file.Docs, func(d *ast.DocumentNode) bool { return d.Body == nil || d.Body.Type() == ast.CommentType })
	switch {
	case len(docs) == 0:
		return nil, errors.New("is empty; a policy without rules is {}")
	case len(docs) > 1:
		return nil, fmt.Errorf("line %d: a second document; a policy is one", line(docs[1].Body))
	}
	return docs[0].Body, nil
}

// deep tells nesting that a policy has no use for.
func deep(src []byte) bool {
	depth := 0
	for _, b := range src {
		switch b {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
		if depth > 8 {
			return true
		}
	}
	return false
}

// each reads the entries of a mapping; what read finds gets key and line.
func each(n ast.Node, read func(key string, value ast.Node) error) error {
	m, ok := n.(ast.MapNode)
	if !ok {
		return fmt.Errorf("line %d: %s, not a mapping of keys", line(n), kind(n))
	}
	for entries := m.MapRange(); entries.Next(); {
		key := entries.Key().GetToken()
		if err := read(key.Value, entries.Value()); err != nil {
			if found := (*problem)(nil); errors.As(err, &found) {
				return &problem{key.Value + "." + found.key, found.line, found.err}
			}
			return &problem{key.Value, key.Position.Line, err}
		}
	}
	return nil
}

// problem is what is wrong with a key.
type problem struct {
	key  string
	line int
	err  error
}

func (p *problem) Error() string {
	return fmt.Sprintf("line %d: %s: %v", p.line, protocol.Cut(p.key, 80), p.err)
}

func (p *problem) Unwrap() error { return p.err }

// texts reads a list of strings.
func texts(n ast.Node, check func(string) error) ([]string, error) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return nil, fmt.Errorf("%s, not a list", kind(n))
	}
	if len(seq.Values) == 0 {
		return nil, errors.New("is empty; name what is allowed, or leave the key out to allow all")
	}
	var all []string
	for _, item := range seq.Values {
		text, ok := item.(*ast.StringNode)
		if !ok {
			return nil, fmt.Errorf("%s in line %d, not a string", kind(item), line(item))
		}
		if err := check(text.Value); err != nil {
			return nil, err
		}
		all = append(all, text.Value)
	}
	return all, nil
}

// registryRE is the first part of a full reference, in which a pattern may have
// its stars and braces.
var registryRE = regexp.MustCompile(`[.:*?\[{]|^localhost$`)

func checkPattern(pattern string) error {
	if !doublestar.ValidatePattern(pattern) {
		return fmt.Errorf("%q is not a pattern", protocol.Cut(pattern, 80))
	}
	registry, _, ok := strings.Cut(pattern, "/")
	if !(ok && registryRE.MatchString(registry)) && pattern != "**" {
		return fmt.Errorf("%q matches no image: patterns are compared with full references; write docker.io/library/python:*", protocol.Cut(pattern, 80))
	}
	return nil
}

// resourceRE is a resource that Kubernetes itself counts, or a qualified one.
var resourceRE = regexp.MustCompile(`^(cpu|memory|ephemeral-storage|hugepages-[A-Za-z0-9]+|[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)$`)

// ceiling reads an entry of maxPerJob.
func (p *Policy) ceiling(key string, n ast.Node) error {
	scalar, ok := n.(ast.ScalarNode)
	if !ok || n.Type() == ast.NullType {
		return fmt.Errorf("%s, not a single value", kind(n))
	}
	text := scalar.GetToken().Value
	switch key {
	case "instances":
		count, err := strconv.ParseInt(text, 10, 64)
		if err != nil || count < 1 {
			return fmt.Errorf("%q is not a number from 1 up", protocol.Cut(text, 80))
		}
		p.instances = count
		return nil
	case "timeout":
		limit, err := time.ParseDuration(text)
		if err != nil || limit < time.Second {
			return fmt.Errorf("%q is not a time from 1s up, such as 24h or 90m", protocol.Cut(text, 80))
		}
		p.timeout = limit
		return nil
	}
	if !resourceRE.MatchString(key) {
		return errors.New("unknown resource; known are instances, timeout, cpu, memory, ephemeral-storage, and those with a domain, such as nvidia.com/gpu")
	}
	quantity, err := resource.ParseQuantity(text)
	if err != nil || quantity.Sign() < 0 || quantity.CmpInt64(math.MaxInt64/1000) > 0 {
		return fmt.Errorf("%q is not a quantity, such as 8, 500m or 64Gi", protocol.Cut(text, 80))
	}
	p.ceilings[corev1.ResourceName(key)] = quantity
	return nil
}

func line(n ast.Node) int { return n.GetToken().Position.Line }

// kind is what a node is, for messages.
func kind(n ast.Node) string {
	if n.Type() == ast.NullType {
		return "has no value"
	}
	return "is a YAML " + strings.ToLower(n.Type().String())
}
