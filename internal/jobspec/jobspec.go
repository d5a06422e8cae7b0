// Package jobspec turns a user's job file, a command job in the YAML of Azure
// ML's CLI v2, into a checked [protocol.Job], and the file of a compute into its
// checked settings ([ParseCompute]).
//
// [Parse] either returns a job that is ready to be submitted, with every
// ${{inputs.x}} of the command resolved, or an [*Error] with all the problems
// of the file at once, each with its line, the line itself and a hint. What
// the schema of Azure ML knows and this version does not support yet is a
// problem too: a key is never ignored silently.
//
// What is accepted and means nothing here, and what was written otherwise in
// 2021, is told in notes.
//
// An environment variable may be ${{secrets.NAME}}, and nothing else beside it:
// its value is sealed and never a part of the job's text, so secrets anywhere
// else are a problem, and so is one without a value, or a value without a use.
//
// Files are bounded in size, tokens and depth, so a hostile one costs no more
// than an honest one; anchors and aliases are refused. A scalar keeps the text
// that the user wrote, as in 0.10 or 007, except that inputs say True and
// False, as Azure ML has it.
package jobspec

import (
	"github.com/trainrelay/trainrelay/protocol"
)

// Options changes what is in the file and how it is checked.
type Options struct {
	// Set has overrides, each "key.key=value", applied in order before
	// anything is checked. Values are YAML scalars.
	Set []string
	// Name, where not empty, is the job's name instead of the file's.
	Name string
	// Secrets are the names of the secrets that there are values for.
	Secrets []string
	// AnySecret takes it that there is a value for every secret.
	AnySecret bool
	// CheckFolder, where not nil, says what is wrong with a local folder that
	// the file names, so that it is told together with everything else.
	CheckFolder func(path string) error
}

// Spec is a checked job file.
type Spec struct {
	// Job lacks only Code, the digest of the folder CodePath, and the Image
	// where Environment stands for it.
	Job protocol.Job
	// Environment is the registered environment that has the image; nil where
	// the file names the image.
	Environment *Asset `json:",omitempty"`
	// CodePath is the local folder of the code as the file gives it, relative
	// to the file's folder unless absolute; empty for none.
	CodePath string
	// Notes are what is to be told of the file, and no problem.
	Notes []Problem `json:",omitempty"`
	// Secrets has for each variable that is to be sealed the name of its
	// secret. They are not among the job's other variables.
	Secrets map[string]string `json:",omitempty"`
}

// Parse reads the job file src; filename is for messages only. The error is an
// *Error, and then nothing may be submitted. Where nobody named the job, it
// gets a fresh random name.
func Parse(filename string, src []byte, opts Options) (*Spec, error) {
	c := checker{file: source{name: filename}, opts: opts}
	c.parse(src)
	if len(c.problems) > 0 {
		return nil, newError(c.problems)
	}
	if len(c.notes) > 0 {
		c.spec.Notes = newError(c.notes).Problems // in the order of the lines
	}
	return &c.spec, nil
}

// parse fills c.spec or c.problems.
func (c *checker) parse(src []byte) {
	file, bad := readSource(c.file.name, src)
	c.file = file
	if bad != nil {
		c.problems = append(c.problems, *bad)
		return
	}
	root := c.tree()
	if root == nil {
		return
	}
	for _, arg := range c.opts.Set {
		c.override(root, "--set "+arg, arg)
	}
	if c.opts.Name != "" {
		root.set([]string{"name"}, &node{kind: stringKind, text: c.opts.Name, at: place{arg: "--name " + c.opts.Name}})
	}
	c.check(root)
}
