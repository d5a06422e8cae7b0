package records

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

const environmentPrefix = "environment."

// maxEnvironments bounds the versions of all environments.
const maxEnvironments = 10_000

// environmentRecord is the record of a version of an environment.
type environmentRecord struct {
	v1.EnvironmentSettings
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by,omitempty"`
	Modified  time.Time `json:"modified"`
}

// environmentKey is without the prefix; neither part has a slash.
func environmentKey(name, version string) string { return name + "/" + version }

func (e environmentRecord) view(key string) v1.EnvironmentVersion {
	name, version, _ := strings.Cut(key, "/")
	return v1.EnvironmentVersion{Name: name, Version: version, EnvironmentSettings: e.EnvironmentSettings,
		CreationContext: v1.CreationContext{CreatedAt: e.Created, CreatedBy: e.CreatedBy}, Modified: e.Modified}
}

// PutEnvironment registers a version of an environment. The same image again is
// the same version, perhaps with another description and other tags; another
// image is an ErrConflict, for jobs that name a version mean its image.
func (s *Store) PutEnvironment(ctx context.Context, name, version string, want v1.EnvironmentSettings, by string) (_ v1.EnvironmentVersion, created bool, _ error) {
	if err := s.ready(ctx); err != nil {
		return v1.EnvironmentVersion{}, false, err
	}
	what := fmt.Sprintf("environment %s:%s", protocol.Cut(name, 80), protocol.Cut(version, 80))
	if err := errors.Join(v1.CheckEnvironmentName(name), v1.CheckEnvironmentVersion(version), want.Check()); err != nil {
		return v1.EnvironmentVersion{}, false, fmt.Errorf("%s: %w: %w", what, ErrInvalid, err)
	}
	key := environmentKey(name, version)
	old, revision := s.setup.environments.at(key)
	if revision > 0 && old.Image != want.Image {
		return v1.EnvironmentVersion{}, false, fmt.Errorf("%s: %w: it has the image %s, and a version never gets another one; register another version", what, ErrConflict, old.Image)
	}
	if revision > 0 && old.Description == want.Description && maps.Equal(old.Tags, want.Tags) {
		return old.view(key), false, nil
	}
	if n := len(s.setup.environments.names()); revision == 0 && n >= maxEnvironments {
		return v1.EnvironmentVersion{}, false, fmt.Errorf("%s: %w: there are %d versions of environments, at most %d are allowed: delete those that nobody uses", what, ErrFull, n, maxEnvironments)
	}
	now := s.now()
	next := environmentRecord{EnvironmentSettings: want, Created: now, CreatedBy: by, Modified: now}
	if revision > 0 {
		next.Created, next.CreatedBy = old.Created, old.CreatedBy
	}
	written, err := s.replace(ctx, environmentPrefix+key, next, revision)
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return v1.EnvironmentVersion{}, false, fmt.Errorf("%s: %w: somebody else registered it just now; look at it, and try again", what, ErrConflict)
	}
	if err != nil {
		return v1.EnvironmentVersion{}, false, fmt.Errorf("write %s: %w", what, full(err))
	}
	s.setup.environments.apply(key, row[environmentRecord]{value: next, revision: written})
	return next.view(key), revision == 0, nil
}

// DeleteEnvironment forgets a version. Jobs that were made with it keep their
// image.
func (s *Store) DeleteEnvironment(ctx context.Context, name, version string) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	key := environmentKey(name, version)
	_, revision := s.setup.environments.at(key)
	if revision == 0 {
		return s.noEnvironment(name, version)
	}
	err := s.plan.Purge(ctx, environmentPrefix+key, jetstream.PurgeTTL(markerTTL), jetstream.LastRevision(revision))
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return fmt.Errorf("environment %s:%s: %w: somebody else changed it just now; try again", name, version, ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("delete environment %s:%s: %w", name, version, full(err))
	}
	s.setup.environments.apply(key, row[environmentRecord]{gone: true, revision: revision + 1})
	return nil
}

// Environment is a version of an environment, the one that was registered last
// for v1.LatestVersion.
func (s *Store) Environment(ctx context.Context, name, version string) (v1.EnvironmentVersion, error) {
	if err := s.ready(ctx); err != nil {
		return v1.EnvironmentVersion{}, err
	}
	if version == v1.LatestVersion {
		if all := s.environments(name); len(all) > 0 {
			return all[0], nil
		}
		return v1.EnvironmentVersion{}, s.noEnvironment(name, version)
	}
	key := environmentKey(name, version)
	if e, ok := s.setup.environments.get(key); ok {
		return e.view(key), nil
	}
	return v1.EnvironmentVersion{}, s.noEnvironment(name, version)
}

// noEnvironment says that there is none, and which versions there are.
func (s *Store) noEnvironment(name, version string) error {
	err := fmt.Errorf("environment %s:%s: %w", protocol.Cut(name, 80), protocol.Cut(version, 80), ErrNotFound)
	var versions []string
	for _, e := range s.environments(name) {
		versions = append(versions, e.Version)
	}
	if len(versions) > 0 {
		err = fmt.Errorf("%w; it has %s", err, protocol.Cut(strings.Join(versions, ", "), 200))
	}
	return err
}

// Environments are all versions of an environment, or of all for an empty name:
// by name, and of each the newest first.
func (s *Store) Environments(ctx context.Context, name string) ([]v1.EnvironmentVersion, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	return s.environments(name), nil
}

func (s *Store) environments(name string) []v1.EnvironmentVersion {
	all := []v1.EnvironmentVersion{}
	s.setup.environments.each(func(key string, e environmentRecord) {
		if view := e.view(key); name == "" || view.Name == name {
			all = append(all, view)
		}
	})
	slices.SortFunc(all, func(a, b v1.EnvironmentVersion) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), b.CreationContext.CreatedAt.Compare(a.CreationContext.CreatedAt), cmp.Compare(b.Version, a.Version))
	})
	return all
}
