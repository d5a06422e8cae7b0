package records

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/internal/v1"
)

// TestEnvironments: a version never gets another image, the newest is the one
// that was registered last, and all outlive the relay.
func TestEnvironments(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, stop := open(t, js, Options{})
	put := func(name, version string, want v1.EnvironmentSettings) (bool, error) {
		t.Helper()
		got, created, err := s.PutEnvironment(t.Context(), name, version, want, "ada")
		if err == nil && (got.Name != name || got.Version != version || got.Image != want.Image || got.CreationContext.CreatedBy != "ada") {
			t.Errorf("%+v", got)
		}
		return created, err
	}
	one := v1.EnvironmentSettings{Image: "registry.example/sklearn:1", Tags: map[string]string{"team": "a"}}
	for _, tc := range []struct {
		name, version string
		want          v1.EnvironmentSettings
		created       bool
		err           error
		says          string
	}{
		{"sklearn", "2.0", one, true, nil, ""},
		{"sklearn", "1.0", one, true, nil, ""},
		{"sklearn", "1.0", one, false, nil, ""},
		{"sklearn", "1.0", v1.EnvironmentSettings{Image: one.Image, Description: "d"}, false, nil, ""},
		{"sklearn", "1.0", v1.EnvironmentSettings{Image: "other:1"}, false, ErrConflict, "registry.example/sklearn:1"},
		{"sklearn.x", "1", one, true, nil, ""},
		{"a/b", "1", one, false, ErrInvalid, `"a/b"`},
		{"a", "latest", one, false, ErrInvalid, "stands for"},
		{"a", "1", v1.EnvironmentSettings{}, false, ErrInvalid, "image"},
	} {
		created, err := put(tc.name, tc.version, tc.want)
		if created != tc.created || !errors.Is(err, tc.err) || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s:%s: %v, %v", tc.name, tc.version, created, err)
		}
	}
	check := func() {
		t.Helper()
		newest, err := s.Environment(t.Context(), "sklearn", v1.LatestVersion)
		if err != nil || newest.Version != "1.0" || newest.Description != "d" {
			t.Errorf("the newest is %+v, %v", newest, err)
		}
		all, err := s.Environments(t.Context(), "")
		var names []string
		for _, e := range all {
			names = append(names, e.Name+":"+e.Version)
		}
		if diff := cmp.Diff([]string{"sklearn:1.0", "sklearn:2.0", "sklearn.x:1"}, names); diff != "" || err != nil {
			t.Errorf("%v, -want +got:\n%s", err, diff)
		}
		if _, err := s.Environment(t.Context(), "sklearn", "3.0"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "it has 1.0, 2.0") {
			t.Errorf("%v", err)
		}
		if _, err := s.Environment(t.Context(), "none", v1.LatestVersion); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
	}
	check()
	stop()
	s, _ = open(t, js, Options{})
	check()
	if err := s.DeleteEnvironment(t.Context(), "sklearn", "1.0"); err != nil {
		t.Fatal(err)
	}
	if newest, err := s.Environment(t.Context(), "sklearn", v1.LatestVersion); err != nil || newest.Version != "2.0" {
		t.Errorf("%+v, %v", newest, err)
	}
	if err := s.DeleteEnvironment(t.Context(), "sklearn", "1.0"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	if created, err := put("sklearn", "1.0", v1.EnvironmentSettings{Image: "other:1"}); !created || err != nil {
		t.Errorf("a version that was deleted: %v, %v", created, err)
	}
}
