// Package extension looks whether the extension that the relay wants is
// installed in this cluster.
//
// It installs nothing: its components come with the agent's chart, which an
// admin applies. The settings that were applied are in a file, and what became
// of the components is asked of the API server, by name. An extension is
// Installed once the settings are those that are wanted and every component
// that they switch on is ready; Failed where one cannot become ready by itself;
// and Pending until then. What cannot be looked at is Pending, too, with the
// error as its reason; the next look may see more.
package extension

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"
	"k8s.io/client-go/kubernetes"

	settings "github.com/trainrelay/trainrelay/internal/extension"
	"github.com/trainrelay/trainrelay/protocol"
)

// Options of an Extension. All but File are needed.
type Options struct {
	Client    kubernetes.Interface
	Namespace string // of the components, which is the agent's own
	File      string // the settings that were applied; it is missing where none were
	Cluster   string // the cluster's name at the relay
}

// Extension looks at one. It is safe for concurrent use.
type Extension struct{ o Options }

// New checks the options.
func New(o Options) (*Extension, error) {
	if o.Client == nil || o.Namespace == "" || o.Cluster == "" {
		return nil, errors.New("extension: no client, namespace or cluster")
	}
	return &Extension{o}, nil
}

// maxFile bounds the file, in bytes.
const maxFile = 64 << 10

// applied is what the chart has put into the file.
type applied struct {
	Settings map[string]string `yaml:"settings"`
	// Found is what was there before, by what it is, and is left alone.
	Found map[string]string `yaml:"found"`
}

// Found is what there is of the extension that is wanted; nil where none is.
func (e *Extension) Found(ctx context.Context, want *protocol.Extension) *protocol.ExtensionFound {
	if want == nil {
		return nil
	}
	is, err := e.read()
	if why := unapplied(is, err, want); why != "" {
		reason := fmt.Sprintf("%s; to apply it, where helm reaches the cluster: %s (it takes the kubelet a minute or two to tell the agent of that)",
			why, settings.ApplyCommand(want.Name, e.o.Cluster))
		return &protocol.ExtensionFound{Revision: want.Revision, State: protocol.Pending, Reason: line(reason, protocol.MaxReason)}
	}
	var found []judged
	for _, c := range components {
		if !c.wanted(is.Settings) {
			continue
		}
		if there := is.Found[c.found]; c.found != "" && there != "" {
			found = append(found, judged{c.name, verdict{ready: true, detail: fmt.Sprintf("%s was there already, and is left alone: %s", c.what, there)}})
			continue
		}
		found = append(found, judged{c.name, e.look(ctx, c)})
	}
	return conclude(want.Revision, found)
}

// unapplied says why what is in the file is not what is wanted; empty where it
// is.
func unapplied(is *applied, err error, want *protocol.Extension) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "it is not applied in the cluster"
	case err != nil:
		return "what is applied cannot be read: " + err.Error()
	}
	if differ := settings.Differ(is.Settings, want.Settings); differ != "" {
		return "other settings are applied in the cluster: " + differ
	}
	return ""
}

func (e *Extension) read() (*applied, error) {
	f, err := os.Open(e.o.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", e.o.File, maxFile)
	}
	is := new(applied)
	if err := yaml.Unmarshal(text, is); err != nil {
		return nil, fmt.Errorf("%s: %w", e.o.File, err)
	}
	return is, nil
}

// judged is a component with what was found of it.
type judged struct {
	name string
	verdict
}

// conclude makes one state of those of the components.
func conclude(revision uint64, found []judged) *protocol.ExtensionFound {
	f := &protocol.ExtensionFound{Revision: revision, State: protocol.Installed}
	var failed, waits []string
	for _, c := range found {
		detail := line(c.detail, protocol.MaxCheckText)
		f.Components = append(f.Components, protocol.Component{Name: c.name, Ready: c.ready, Detail: detail})
		switch {
		case c.failed:
			failed = append(failed, c.name+": "+detail)
		case !c.ready:
			waits = append(waits, c.name+": "+detail)
		}
	}
	switch {
	case len(failed) > 0:
		f.State, f.Reason = protocol.InstallFailed, line(strings.Join(failed, "; "), protocol.MaxReason)
	case len(waits) > 0:
		f.State, f.Reason = protocol.Pending, line("waiting for "+strings.Join(waits, "; "), protocol.MaxReason)
	}
	return f
}

// line makes one printable line of a text, which may hold a stranger's words.
func line(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	return protocol.Cut(strings.Join(strings.Fields(text), " "), most)
}
