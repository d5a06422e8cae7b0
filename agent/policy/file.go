package policy

import (
	"errors"
	"fmt"
	"io"
	"os"

	batchv1 "k8s.io/api/batch/v1"
)

// MaxSize bounds a policy, in bytes.
const MaxSize = 32 << 10

// File is the policy in a file, as it is at the moment.
type File struct {
	path string
	o    Options
}

// NewFile names the file. It is read when it is needed.
func NewFile(path string, o Options) (*File, error) {
	switch {
	case path == "":
		return nil, errors.New("policy: no file")
	case o.Timeout == nil:
		return nil, errors.New("policy: nothing tells a Job's timeout")
	}
	return &File{path: path, o: o}, nil
}

// Usable says what keeps the file from being a policy; nil for nothing.
func (f *File) Usable() error {
	_, err := f.load()
	return err
}

// Judge says by which rule of the policy the Job must not be created, or why
// there is no policy that could say so.
func (f *File) Judge(job *batchv1.Job) (refusal, err error) {
	p, err := f.load()
	if err != nil {
		return nil, err
	}
	return p.Judge(job), nil
}

// Place says by which rule no Job may be created in the namespace, or why there
// is no policy that could say so; nil where Jobs may.
func (f *File) Place(namespace string) error {
	p, err := f.load()
	if err != nil {
		return err
	}
	return p.Place(namespace)
}

func (f *File) load() (*Policy, error) {
	src, err := read(f.path)
	if err != nil {
		return nil, fmt.Errorf("the cluster's policy allows nothing, since it cannot be read: %w; its admin has to mend it", err)
	}
	p, err := Parse(src, f.o)
	if err != nil {
		return nil, fmt.Errorf("the cluster's policy allows nothing, since it is broken: %s: %w; its admin has to mend it", f.path, err)
	}
	return p, nil
}

// read reads no more of the file than shows that it is too large.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxSize+1))
}
