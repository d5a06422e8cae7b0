package jobspec

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/trainrelay/trainrelay/protocol"
)

var resources = schema{
	"instance_count": {read: func(c *checker, n *node, key string) {
		if value, ok := c.integer(n, key, 1, protocol.MaxInstances); ok {
			c.spec.Job.Instances = int(value)
		}
	}},
	"instance_type":      {read: readInstanceType},
	"shm_size":           {read: readShm},
	"locations":          {read: ignored("a job runs where its compute is")},
	"properties":         {read: ignored("nothing here reads them")},
	"docker_args":        {hint: "there is no docker in between; shm_size and environment_variables have keys of their own, and what else a container may do the cluster's admin says"},
	"max_instance_count": {hint: "a job has as many instances as instance_count says"},
}

var limits = schema{
	"timeout": {read: func(c *checker, n *node, key string) {
		if value, ok := c.integer(n, key, 1, int64(366*24*time.Hour/time.Second)); ok {
			c.spec.Job.TimeoutSeconds = value
		}
	}},
}

// priorities are what dispatch orders by.
var priorities = map[string]int{"low": -1, "medium": 0, "high": 1}

var queueSettings = schema{
	"priority": {read: func(c *checker, n *node, key string) {
		text, ok := c.text(n, key)
		if !ok {
			return
		}
		priority, known := priorities[strings.ToLower(text)]
		if !known {
			c.report(n.at, key, fmt.Sprintf("%s is no priority", quote(text)), "a priority is low, medium or high")
		}
		c.spec.Job.Priority = priority
	}},
	"job_tier": {read: ignored("a compute's nodes are all of one tier here")},
}

// ignored reads a key that means nothing here, and says so.
func ignored(why string) func(*checker, *node, string) {
	return func(c *checker, n *node, key string) {
		c.note(n.at, key, key+" is ignored: "+why, "")
	}
}

var shmRE = regexp.MustCompile(`^([0-9]+)([bkmgBKMG]?)$`)

// readShm reads a size as docker has it: a number and b, k, m or g, in steps of
// 1024.
func readShm(c *checker, n *node, key string) {
	text, ok := c.text(n, key)
	if !ok {
		return
	}
	m := shmRE.FindStringSubmatch(text)
	if m == nil {
		c.report(n.at, key, fmt.Sprintf("%s is %s; it must be a number and b, k, m or g", key, quote(text)), "for example shm_size: 2g")
		return
	}
	size, err := strconv.ParseInt(m[1], 10, 64)
	shift := map[string]int{"": 0, "b": 0, "k": 10, "m": 20, "g": 30}[strings.ToLower(m[2])]
	if err != nil || size > math.MaxInt64>>shift || size<<shift > protocol.MaxShm || size == 0 {
		c.report(n.at, key, fmt.Sprintf("%s is %s; it must be within 1b to %dg", key, quote(text), protocol.MaxShm>>30), "")
		return
	}
	c.spec.Job.ShmBytes = size << shift
}

// serviceTypes are those of Azure ML's interactive services.
var serviceTypes = []string{"ssh", "tensor_board", "vs_code", "jupyter_lab", "custom"}

func readServices(c *checker, n *node, key string) {
	if !c.mapping(n, key) || len(n.entries) == 0 {
		return
	}
	for _, e := range n.entries {
		dotted := join(key, e.key)
		if !c.mapping(e.value, dotted) {
			continue
		}
		text := rule{read: func(c *checker, n *node, key string) { c.text(n, key) }}
		kind := rule{read: readServiceType}
		c.walk(e.value, dotted, schema{"type": kind, "job_service_type": kind, "nodes": text, "log_dir": text, "ssh_public_keys": text,
			"port": {read: func(c *checker, n *node, key string) { c.integer(n, key, 1, 65535) }}, "properties": {read: func(*checker, *node, string) {}}})
	}
	c.note(n.at, key, "services are not opened: the job runs without them", "")
}

func readServiceType(c *checker, n *node, key string) {
	text, ok := c.text(n, key)
	if !ok {
		return
	}
	for _, known := range serviceTypes {
		if strings.EqualFold(text, known) {
			return
		}
	}
	hint := "known are " + strings.Join(serviceTypes, ", ")
	if near := closest(text, serviceTypes); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	c.report(n.at, key, fmt.Sprintf("unknown type of service %s", quote(text)), hint)
}
