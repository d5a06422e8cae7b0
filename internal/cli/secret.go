package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/goccy/go-yaml"
)

// The Secret that the agent's chart reads.
const (
	secretName      = "trainrelay-agent"
	secretNamespace = "azureml"
)

// secret is the Kubernetes manifest of an agent's credentials.
func secret(seed, ca string) any {
	data := yaml.MapSlice{{Key: "nkey-seed", Value: seed}}
	if ca != "" {
		data = append(data, yaml.MapItem{Key: "relay-ca.crt", Value: ca})
	}
	return yaml.MapSlice{
		{Key: "apiVersion", Value: "v1"},
		{Key: "kind", Value: "Secret"},
		{Key: "metadata", Value: yaml.MapSlice{{Key: "name", Value: secretName}, {Key: "namespace", Value: secretNamespace}}},
		{Key: "type", Value: "Opaque"},
		{Key: "stringData", Value: data},
	}
}

// secretPlace is where a Secret will be written; nowhere is a place, too.
type secretPlace struct {
	w    io.Writer
	file *os.File
}

// openSecret opens the file, which must not exist yet.
func openSecret(name string, stdout io.Writer) (secretPlace, error) {
	switch name {
	case "":
		return secretPlace{}, nil
	case "-":
		return secretPlace{w: stdout}, nil
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return secretPlace{}, usage{fmt.Errorf("--secret-file: %s exists", name), "an earlier key may be in it: move it away, or name another file"}
	}
	if err != nil {
		return secretPlace{}, usage{fmt.Errorf("--secret-file: %w", err), ""}
	}
	return secretPlace{file, file}, nil
}

func (p secretPlace) write(manifest any) error {
	text, err := yaml.MarshalWithOptions(manifest, yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return err
	}
	if _, err := p.w.Write(text); err != nil {
		return err
	}
	if p.file != nil {
		return errors.Join(p.file.Sync(), p.file.Close())
	}
	return nil
}

// discard takes the empty file away.
func (p secretPlace) discard() error {
	if p.file == nil {
		return nil
	}
	return errors.Join(p.file.Close(), os.Remove(p.file.Name()))
}
