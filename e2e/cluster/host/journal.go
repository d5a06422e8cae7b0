package host

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// kind is what an entry of the journal says was made.
type kind string

const (
	madeHost      kind = "host"      // Name is the host's id, PID its owner
	madeProcess   kind = "process"   // Value is when it started
	madeDevice    kind = "device"    // a network device
	madeNamespace kind = "namespace" // a network namespace
	madeCgroup    kind = "cgroup"    // in every hierarchy
	madeFolder    kind = "folder"
	setSysctl     kind = "sysctl"     // Value is what it was before
	setController kind = "controller" // of the root of a cgroup v2 hierarchy, at Value
)

// entry is one line of the journal.
type entry struct {
	Kind  kind   `json:"kind"`
	Name  string `json:"name"`
	PID   int    `json:"pid,omitempty"`
	Value string `json:"value,omitempty"`
}

// journal is the list of what was made, oldest first, kept in a file of one
// JSON object a line.
type journal struct {
	file string

	mu      sync.Mutex
	entries []entry
}

func readJournal(dir string) (*journal, error) {
	j := &journal{file: filepath.Join(dir, journalName)}
	text, err := os.ReadFile(j.file)
	if err != nil {
		return nil, err
	}
	for number, line := range bytes.SplitAfter(text, []byte("\n")) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // cut off while it was written: what it announces was not made
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", j.file, number+1, err)
		}
		j.entries = append(j.entries, e)
	}
	return j, nil
}

// add records an entry; it is called before the thing is made, and for a
// process directly after.
func (j *journal) add(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	f, err := os.OpenFile(j.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		f.Close()
		return err
	}
	j.entries = append(j.entries, e)
	return f.Close()
}

// id is the mark of the host's processes.
func (j *journal) id() string {
	for _, e := range j.all(madeHost) {
		return e.Name
	}
	return ""
}

// all returns the entries of a kind, newest first: the order of taking back.
func (j *journal) all(k kind) []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []entry
	for _, e := range slices.Backward(j.entries) {
		if e.Kind == k {
			found = append(found, e)
		}
	}
	return found
}

// has reports whether an entry of this kind and name is there.
func (j *journal) has(k kind, name string) bool {
	return slices.ContainsFunc(j.all(k), func(e entry) bool { return e.Name == name })
}

// rewrite replaces the file by the entries; the caller holds the lock.
func (j *journal) rewrite() error {
	var text []byte
	for _, e := range j.entries {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		text = append(append(text, line...), '\n')
	}
	next := j.file + ".next"
	if err := os.WriteFile(next, text, 0o644); err != nil {
		return err
	}
	return os.Rename(next, j.file)
}
