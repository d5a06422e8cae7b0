package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/trainrelay/trainrelay/internal/client"
	"github.com/trainrelay/trainrelay/internal/jobspec"
	"github.com/trainrelay/trainrelay/internal/snapshot/pack"
)

// jobSource is a job file, and what is changed in it.
type jobSource struct {
	File string   `short:"f" required:"" help:"The job file, YAML as of az ml; - for stdin, or an http(s) URL." placeholder:"FILE"`
	Name string   `short:"n" help:"The job's name, instead of the file's or a random one." placeholder:"NAME"`
	Set  []string `sep:"none" help:"Override a value of the file, as inputs.epochs=3; may be repeated." placeholder:"KEY=VALUE"`
	More []string `arg:"" optional:"" name:"key=value" help:"More overrides, as az takes them behind --set."`
}

type jobCreate struct {
	jobSource
	Secret []string `sep:"none" help:"A secret that the file names as $${{secrets.NAME}}, from the environment, or with =@FILE from a file; may be repeated." placeholder:"NAME[=@FILE]"`
	// The default place of docker's is not read: nothing goes anywhere unasked.
	RegistryConfig string `help:"Pull the image with the login for its registry in this config.json of docker." placeholder:"FILE"`
	Stream         bool   `short:"s" help:"Follow the job until it ends; the exit code tells how."`
	output
}

func (c *jobCreate) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	values, err := a.readSecrets(c.Secret)
	if err != nil {
		return err
	}
	spec, dir, err := a.readJob(ctx, &c.jobSource, jobspec.Options{Secrets: sortedKeys(values)})
	if err != nil {
		return err
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	if spec.Environment != nil {
		if spec.Job.Image, err = a.imageOf(ctx, relay, *spec.Environment); err != nil {
			return err
		}
	}
	sealing := sealing{variables: spec.Secrets, values: values}
	if c.RegistryConfig != "" {
		if sealing.pull, err = registryConfig(c.RegistryConfig, spec.Job.Image); err != nil {
			return err
		}
	}
	if spec.CodePath != "" {
		if spec.Job.Code, err = a.sendCode(ctx, relay, resolve(dir, spec.CodePath)); err != nil {
			return err
		}
	}
	if err := sealing.seal(ctx, relay, &spec.Job); err != nil {
		return err
	}
	job, created, err := relay.Submit(ctx, spec.Job)
	var refused *client.APIError
	switch {
	case errors.As(err, &refused):
		return err
	case err != nil:
		return hinted{err, fmt.Sprintf("whether it arrived tells `trainrelay job show -n %s`; the same command with --name %s never submits it twice", spec.Job.Name, spec.Job.Name)}
	case !created:
		a.notef("job %s was submitted before, with the same content; nothing was added", job.Name)
	}
	for _, warning := range job.Warnings {
		a.notef("warning: %s", warning)
	}
	if c.Stream {
		err = a.follow(ctx, relay, job)
		if c.Format == "" && c.Query == "" {
			return err
		}
		if now, refreshed := relay.Job(ctx, job.Name); refreshed == nil {
			job = now
		}
		return errors.Join(err, a.print(c.output, job, formatJSON, jobColumns))
	}
	return a.print(c.output, job, formatJSON, jobColumns)
}

type jobValidate struct {
	jobSource
	output
}

// Run checks a job file without a relay. It prints the job where it is asked how.
func (c *jobValidate) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	spec, _, err := a.readJob(ctx, &c.jobSource, jobspec.Options{AnySecret: true})
	if err != nil {
		return err
	}
	a.notef("the job file is valid")
	if c.Format == "" && c.Query == "" {
		return nil
	}
	return a.print(c.output, spec.Job, formatJSON, jobColumns)
}

// readJob reads and checks the job file, and tells what is to be told of it. dir
// is what its paths are relative to.
func (a *app) readJob(ctx context.Context, c *jobSource, opts jobspec.Options) (spec *jobspec.Spec, dir string, err error) {
	var src []byte
	name := c.File
	fetched := strings.HasPrefix(name, "https://") || strings.HasPrefix(name, "http://")
	switch {
	case name == "-":
		name = "stdin"
		src, err = io.ReadAll(io.LimitReader(a.io.In, jobspec.MaxSize+1))
	case fetched:
		src, err = a.fetch(ctx, name)
	default:
		dir = filepath.Dir(name)
		src, err = readFile(name)
	}
	if err != nil {
		return nil, "", usage{fmt.Errorf("read the job file: %w", err), "give its path or URL with --file"}
	}
	opts.Set, opts.Name = append(c.Set, c.More...), c.Name
	opts.CheckFolder = func(path string) error {
		if fetched && !filepath.IsAbs(path) {
			return fmt.Errorf("%q is a path beside the file, which was fetched from a URL", path)
		}
		return checkFolder(path, resolve(dir, path))
	}
	spec, err = jobspec.Parse(name, src, opts)
	if err != nil {
		return nil, "", err
	}
	for _, note := range spec.Notes {
		a.notef("note: %s", note.OneLine())
	}
	return spec, dir, nil
}

// fetchTimeout is for a job file.
const fetchTimeout = 30 * time.Second

// fetch gets no more of a URL than shows that it is too large.
func (a *app) fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	transport := &http.Transport{Proxy: a.proxy()}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", req.URL.Redacted(), resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, jobspec.MaxSize+1))
}

// readFile reads no more of a file than shows that it is too large.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, jobspec.MaxSize+1))
}

func checkFolder(path, at string) error {
	info, err := os.Stat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no folder %q", path)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%q is not a folder", path)
	}
	return nil
}

func resolve(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// sendCode packs the folder and sends it, unless the relay has the same
// already. It returns the digest.
func (a *app) sendCode(ctx context.Context, relay *client.Client, dir string) (string, error) {
	line := a.newLine()
	line.start()
	defer line.stop()
	doing := "reading"
	folder, err := pack.Open(ctx, dir, pack.Options{Progress: func(done, total int64) {
		line.set(fmt.Sprintf("%s %s: %s of %s", doing, dir, size(done), size(total)))
	}})
	if err != nil {
		return "", err
	}
	digest, err := folder.Digest(ctx)
	if err != nil {
		return "", err
	}
	has, err := relay.HasSnapshot(ctx, digest)
	if err != nil || has {
		return digest, err
	}
	doing = "sending"
	if err := relay.PutSnapshot(ctx, digest, func(w io.Writer) error { return folder.Write(ctx, w) }); err != nil {
		return "", err
	}
	line.stop()
	a.notef("sent %s (%s, %s)", dir, count(folder.Files(), "file"), size(folder.Bytes()))
	return digest, nil
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}
