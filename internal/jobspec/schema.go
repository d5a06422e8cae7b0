package jobspec

import (
	"fmt"
	"strings"

	"github.com/trainrelay/trainrelay/protocol"
)

// schema has a rule for each key of a mapping that Azure ML's schema knows.
type schema map[string]rule

// rule is what becomes of a key: read, or else a problem, since it is the
// relay's to set or not supported yet.
type rule struct {
	read     func(c *checker, n *node, key string)
	readOnly bool
	hint     string
}

func (s schema) supported() []string {
	var keys []string
	for _, key := range sorted(s) {
		if s[key].read != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

var commandJob = schema{
	"$schema":               {read: func(*checker, *node, string) {}}, // for editors
	"type":                  {read: func(*checker, *node, string) {}}, // read before all others
	"command":               {read: func(*checker, *node, string) {}}, // read after the inputs
	"name":                  {read: readName},
	"display_name":          {read: readText(func(j *protocol.Job) *string { return &j.DisplayName })},
	"experiment_name":       {read: readText(func(j *protocol.Job) *string { return &j.Experiment })},
	"description":           {read: readText(func(j *protocol.Job) *string { return &j.Description })},
	"tags":                  {read: readTags},
	"code":                  {read: readCode},
	"environment":           {read: readEnvironment},
	"environment_variables": {read: readVariables},
	"inputs":                {read: readInputs},
	"compute":               {read: readCompute},
	"resources":             {read: readSection(resources)},
	"limits":                {read: readSection(limits)},

	"properties":     {read: func(c *checker, n *node, key string) { c.spec.Job.Properties = c.texts(n, key, protocol.MaxTags) }},
	"queue_settings": {read: readSection(queueSettings)},
	"services":       {read: readServices},
	"identity":       {read: ignored("jobs have no identity here, and pods no token")},

	"distribution":    {},
	"outputs":         {hint: "a job's output is its log; let the command store files itself"},
	"parent_job_name": {},

	"id":               {readOnly: true},
	"status":           {readOnly: true},
	"log_files":        {readOnly: true},
	"creation_context": {readOnly: true},
	"parameters":       {readOnly: true},
}

const buildHint = "build the image and name it in environment.image"

var environment = schema{
	"image":  {read: readImage},
	"docker": {read: olderEnvironment},

	"conda_file":       {hint: "build an image that has the packages"},
	"build":            {hint: buildHint},
	"inference_config": {},
	"os_type":          {},
	"name":             {hint: "an inline environment has no name"},
	"version":          {hint: "an inline environment has no version"},
	"description":      {},
	"tags":             {},
	"properties":       {},
}

func readInstanceType(c *checker, n *node, key string) {
	text, ok := c.text(n, key)
	if !ok {
		return
	}
	if err := protocol.CheckInstanceType(text); err != nil && !strings.Contains(text, exprOpen) {
		c.report(n.at, key, err.Error(), "`trainrelay compute show NAME` lists the instance types")
	}
	c.plain(n, key)
	c.spec.Job.InstanceType = text
}

func readSection(keys schema) func(*checker, *node, string) {
	return func(c *checker, n *node, key string) {
		if c.mapping(n, key) {
			c.walk(n, key, keys)
		}
	}
}

func readText(field func(*protocol.Job) *string) func(*checker, *node, string) {
	return func(c *checker, n *node, key string) {
		if text, ok := c.text(n, key); ok {
			*field(&c.spec.Job) = text
		}
	}
}

func readName(c *checker, n *node, key string) {
	name, ok := c.text(n, key)
	if !ok {
		return
	}
	if err := protocol.CheckName(name); err != nil {
		c.report(n.at, key, err.Error(), "")
	}
	c.spec.Job.Name = name
}

func readTags(c *checker, n *node, key string) {
	c.spec.Job.Tags = c.texts(n, key, protocol.MaxTags)
}

func readVariables(c *checker, n *node, key string) {
	c.spec.Job.Env = c.texts(n, key, protocol.MaxEnv)
	defer c.takeSecrets(n, key)
	for _, e := range n.entries {
		dotted := join(key, e.key)
		if !inputRE.MatchString(e.key) {
			c.report(e.at, dotted, fmt.Sprintf("%s is not the name of a variable: letters, digits and _, not starting with a digit", quote(e.key)), "")
		}
		if strings.ContainsRune(e.value.text, 0) {
			c.report(e.value.at, dotted, dotted+" contains a NUL character", "")
		}
		c.plain(e.value, dotted)
	}
}

// texts reads a mapping of at most limit scalars.
func (c *checker) texts(n *node, key string, limit int) map[string]string {
	if !c.mapping(n, key) || len(n.entries) == 0 {
		return nil
	}
	if len(n.entries) > limit {
		c.report(n.at, key, fmt.Sprintf("%s has %d entries; at most %d are allowed", key, len(n.entries), limit), "")
	}
	texts := make(map[string]string, len(n.entries))
	for _, e := range n.entries {
		if text, ok := c.text(e.value, join(key, e.key)); ok {
			texts[e.key] = text
		}
	}
	return texts
}

func readInputs(c *checker, n *node, key string) {
	if !c.mapping(n, key) || len(n.entries) == 0 {
		return
	}
	if len(n.entries) > protocol.MaxInputs {
		c.report(n.at, key, fmt.Sprintf("inputs has %d entries; at most %d are allowed", len(n.entries), protocol.MaxInputs), "")
	}
	inputs := make(map[string]string, len(n.entries))
	c.absent = make(map[string]bool)
	for _, e := range n.entries {
		dotted := join(key, e.key)
		inputs[e.key] = "" // defined, even if wrongly
		switch {
		case !inputRE.MatchString(e.key):
			c.report(e.at, dotted, fmt.Sprintf("%s is not the name of an input: letters, digits and _, not starting with a digit", quote(e.key)), "")
		case e.value.kind == mappingKind:
			c.report(e.at, dotted, fmt.Sprintf("%s: inputs with a type and a path are not supported yet", dotted),
				"give a plain value: text, a number, true or false")
		default:
			if e.value.kind == nullKind {
				delete(inputs, e.key)
				c.absent[e.key] = true
			} else if _, ok := c.text(e.value, dotted); ok {
				inputs[e.key] = literal(e.value)
				c.plain(e.value, dotted)
			}
		}
	}
	if len(inputs) > 0 {
		c.spec.Job.Inputs = inputs
	}
}

// literal is the text that stands for an input in the command. Booleans are
// spelled as Azure ML, being Python, spells them.
func literal(n *node) string {
	if n.kind != boolKind {
		return n.text
	}
	if strings.EqualFold(n.text, "true") {
		return "True"
	}
	return "False"
}

func readCompute(c *checker, n *node, key string) {
	if n.kind == mappingKind && key == "compute" {
		readOlderCompute(c, n, key)
		return
	}
	text, ok := c.text(n, key)
	if !ok {
		return
	}
	name := strings.TrimPrefix(text, "azureml:")
	switch {
	case name == "local":
		c.report(n.at, key, "running on this machine (compute: local) is not supported yet", "`trainrelay compute list` shows the computes")
	case strings.HasPrefix(name, "/"):
		c.report(n.at, key, "a compute's resource id is not supported", "give the compute's name alone")
	case strings.Contains(name, exprOpen):
		c.plain(n, key)
	default:
		if err := protocol.CheckCompute(name); err != nil {
			c.report(n.at, key, err.Error(), "")
		}
	}
	c.spec.Job.Compute = name
}

func readCode(c *checker, n *node, key string) {
	if n.kind == mappingKind && key == "code" {
		c.older(n.at, key+" with keys of its own", "`code: FOLDER`")
		c.walk(n, key, schema{"local_path": {read: readCode}})
		return
	}
	path, ok := c.text(n, key)
	if !ok {
		return
	}
	scheme, _, remote := strings.Cut(path, ":")
	switch {
	case strings.TrimSpace(path) == "":
		c.report(n.at, key, "code is empty", "give the folder of the code, as `code: ./src`")
	case protocol.CheckDigest(path) == nil: // of code that was sent before
		c.spec.Job.Code = path
		return
	case remote && len(scheme) > 1: // a single letter is a drive
		c.report(n.at, key, fmt.Sprintf("code from %s: is not supported yet", quote(scheme)), "give a local folder, as `code: ./src`")
	case c.opts.CheckFolder != nil:
		if err := c.opts.CheckFolder(path); err != nil {
			c.report(n.at, key, err.Error(), "paths are relative to the job file")
		}
	}
	c.spec.CodePath = path
}

func readEnvironment(c *checker, n *node, key string) {
	switch {
	case n.kind == mappingKind:
		c.walk(n, key, environment)
		switch image, docker := n.find("image"), n.find("docker"); {
		case image != nil && docker != nil:
			c.report(docker.at, join(key, "docker"), "environment has an image twice", "keep `image`")
		case image == nil && docker == nil:
			c.report(n.at, key, "environment has no image", "add `image: NAME` to it")
		}
	default:
		readImage(c, n, key)
	}
}

func readImage(c *checker, n *node, key string) {
	if text := strings.TrimPrefix(n.text, "azureml:"); text != n.text && n.scalar() && key == "environment" {
		c.registered(n, key, text)
		return
	}
	c.spec.Job.Image = c.image(n, key)
}

// image reads the reference of an image.
func (c *checker) image(n *node, key string) string {
	image, ok := c.text(n, key)
	if !ok {
		return ""
	}
	switch {
	case strings.HasPrefix(image, "azureml:"):
		c.report(n.at, key, fmt.Sprintf("%s is an environment, not an image", quote(image)), "write `environment: "+image+"`")
	case strings.HasPrefix(image, "file:"), strings.Contains(image, "://"):
		c.report(n.at, key, fmt.Sprintf("%s is not an image reference", quote(image)), "an image is named as registry/repository:tag")
	case image == "" || strings.ContainsFunc(image, func(r rune) bool { return r <= ' ' || r > '~' }):
		c.report(n.at, key, fmt.Sprintf("%s is not an image reference", quote(image)), "an image is named as registry/repository:tag, without spaces")
	case protocol.ImageID(image):
		c.report(n.at, key, fmt.Sprintf("%s is the id of an image on some machine", quote(protocol.Cut(image, 80))), "an image is named as registry/repository:tag, or registry/repository@sha256:…")
	}
	return image
}
