package records

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/internal/extension"
	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// extensionPrefix is that of the records of extensions: one for each cluster,
// which stays when the cluster is disconnected, as computes do.
const extensionPrefix = "extension."

// extensionRecord is the record of a cluster's extension: what is wanted. What
// is there is what its agent reports.
type extensionRecord struct {
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Settings   map[string]string `json:"settings,omitempty"` // those that were given
	Created    time.Time         `json:"created"`
	CreatedBy  string            `json:"created_by,omitempty"`
	Modified   time.Time         `json:"modified"`
	ModifiedBy string            `json:"modified_by,omitempty"`
}

// PutExtension makes the extension of a cluster, or gives it other settings.
func (s *Store) PutExtension(ctx context.Context, cluster, name string, want v1.ExtensionSettings, by string) (_ v1.Extension, created bool, _ error) {
	if err := s.ready(ctx); err != nil {
		return v1.Extension{}, false, err
	}
	settings, err := extension.Check(want.Settings)
	if err := errors.Join(checkExtension(name, want.ExtensionType), err); err != nil {
		return v1.Extension{}, false, fmt.Errorf("extension %q: %w: %w", protocol.Cut(name, 80), ErrInvalid, err)
	}
	if _, ok := s.setup.clusters.get(cluster); !ok {
		return v1.Extension{}, false, fmt.Errorf("extension %s: %w: there is no cluster %q; connect it first", name, ErrInvalid, protocol.Cut(cluster, 80))
	}
	old, revision := s.setup.extensions.at(cluster)
	if revision > 0 && old.Name != name {
		return v1.Extension{}, false, fmt.Errorf("extension %s: %w: cluster %s has one, %s; update that, or delete it first", name, ErrConflict, cluster, old.Name)
	}
	if want.Revision != 0 && want.Revision != revision {
		return v1.Extension{}, false, changedMeanwhile(name)
	}
	now := s.now()
	next := extensionRecord{Name: name, Type: extension.Type, Settings: settings, Created: now, CreatedBy: by, Modified: now, ModifiedBy: by}
	if revision > 0 {
		next.Created, next.CreatedBy = old.Created, old.CreatedBy
	}
	written, err := s.replace(ctx, extensionPrefix+cluster, next, revision)
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return v1.Extension{}, false, changedMeanwhile(name)
	}
	if err != nil {
		return v1.Extension{}, false, fmt.Errorf("write extension %s of cluster %s: %w", name, cluster, full(err))
	}
	s.setup.extensions.apply(cluster, row[extensionRecord]{value: next, revision: written})
	s.opts.Nudge(cluster)
	return s.extension(cluster, next, written), revision == 0, nil
}

func changedMeanwhile(name string) error {
	return fmt.Errorf("extension %s: %w: somebody else changed it just now; try again", name, ErrConflict)
}

func checkExtension(name, kind string) error {
	var errs []error
	if err := protocol.CheckLabel("cluster extension", name); err != nil {
		errs = append(errs, err)
	}
	if kind != "" && !strings.EqualFold(kind, extension.Type) {
		errs = append(errs, fmt.Errorf("there is no extension type %q; the valid one is %s", protocol.Cut(kind, 80), extension.Type))
	}
	return errors.Join(errs...)
}

// DeleteExtension forgets the extension of a cluster. What is installed stays
// until the cluster's admin takes it away.
func (s *Store) DeleteExtension(ctx context.Context, cluster, name string) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	now, revision := s.setup.extensions.at(cluster)
	if revision == 0 || now.Name != name {
		return s.noExtension(cluster, name)
	}
	err := s.plan.Purge(ctx, extensionPrefix+cluster, jetstream.PurgeTTL(markerTTL), jetstream.LastRevision(revision))
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return changedMeanwhile(name)
	}
	if err != nil {
		return fmt.Errorf("delete extension %s of cluster %s: %w", name, cluster, full(err))
	}
	s.setup.extensions.apply(cluster, row[extensionRecord]{gone: true, revision: revision + 1})
	s.opts.Nudge(cluster)
	return nil
}

// noExtension says that there is none of the name, and which there is.
func (s *Store) noExtension(cluster, name string) error {
	err := fmt.Errorf("extension %s of cluster %s: %w", protocol.Cut(name, 80), protocol.Cut(cluster, 80), ErrNotFound)
	if now, ok := s.setup.extensions.get(cluster); ok {
		err = fmt.Errorf("%w; it has %s", err, now.Name)
	}
	return err
}

// ExtensionOf is the extension of that name in the cluster.
func (s *Store) ExtensionOf(ctx context.Context, cluster, name string) (v1.Extension, error) {
	if err := s.ready(ctx); err != nil {
		return v1.Extension{}, err
	}
	now, revision := s.setup.extensions.at(cluster)
	if revision == 0 || now.Name != name {
		return v1.Extension{}, s.noExtension(cluster, name)
	}
	return s.extension(cluster, now, revision), nil
}

// Extensions are those of the cluster: one or none.
func (s *Store) Extensions(ctx context.Context, cluster string) ([]v1.Extension, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	now, revision := s.setup.extensions.at(cluster)
	if revision > 0 {
		return []v1.Extension{s.extension(cluster, now, revision)}, nil
	}
	if _, ok := s.setup.clusters.get(cluster); !ok {
		return nil, fmt.Errorf("cluster %s: %w", protocol.Cut(cluster, 80), ErrNotFound)
	}
	return []v1.Extension{}, nil
}

// Extension is that of a cluster as its agent is told of it, nil for none.
func (s *Store) Extension(cluster string) *protocol.Extension {
	now, revision := s.setup.extensions.at(cluster)
	if revision == 0 {
		return nil
	}
	return &protocol.Extension{Name: now.Name, Revision: revision, Settings: extension.Resolve(now.Settings)}
}

// Analyzed reports whether the cluster's output is to be searched and exported:
// its extension has logAnalyticsWS=True, or it has no extension that could say
// otherwise.
func (s *Store) Analyzed(cluster string) bool {
	now, ok := s.setup.extensions.get(cluster)
	return !ok || now.Settings[extension.LogAnalyticsWS] == extension.True
}

// trainingOff says why the computes of a cluster take no jobs. A cluster
// without the extension trains: the agent alone is all that it takes.
func (s *Store) trainingOff(cluster string) error {
	now, ok := s.setup.extensions.get(cluster)
	if !ok || now.Settings[extension.EnableTraining] == extension.True {
		return nil
	}
	return fmt.Errorf("cluster %s takes no jobs, since the setting %s of its extension %s is %s; to change that: trainrelay k8s-extension update --name %s --cluster-name %s --configuration-settings %s=%s",
		cluster, extension.EnableTraining, now.Name, extension.False, now.Name, cluster, extension.EnableTraining, extension.True)
}
