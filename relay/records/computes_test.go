package records

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

func kinds(names ...string) protocol.ComputeSettings {
	s := protocol.ComputeSettings{DefaultInstanceType: names[0], InstanceTypes: map[string]protocol.InstanceType{}}
	for _, name := range names {
		s.InstanceTypes[name] = protocol.InstanceType{}
	}
	return s
}

func putCompute(t *testing.T, s *Store, settings protocol.ComputeSettings) (v1.Compute, error) {
	t.Helper()
	c, _, err := s.PutCompute(t.Context(), "c", v1.ComputeBody{ComputeSettings: v1.ComputeSettings{Cluster: "c", Namespace: "train", ComputeSettings: settings}}, "admin")
	return c, err
}

// find has the agent of "c" report what it found.
func find(t *testing.T, s *Store, found protocol.Found) v1.Compute {
	t.Helper()
	found.Time = time.Now()
	if _, err := s.Report(t.Context(), "c", &protocol.Sync{Session: "session", Found: &found}); err != nil {
		t.Fatal(err)
	}
	c, err := s.Compute(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestProvisioning: a compute is what the agent found of its newest settings.
func TestProvisioning(t *testing.T) {
	dir := t.TempDir()
	js, stopServer := serve(t, dir, false)
	s, stop := open(t, js, Options{})
	withCompute(t, s)
	revision := s.Targets("c")[0].Revision
	is := func(c v1.Compute, want v1.ProvisioningState) {
		t.Helper()
		if c.ProvisioningState != want || c.Status.ProvisioningState != want {
			t.Errorf("%s, %+v; want %s", c.ProvisioningState, c.Status, want)
		}
	}
	c, err := s.Compute(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	is(c, v1.Creating)
	is(find(t, s, protocol.Found{Computes: []protocol.ComputeFound{{Name: "c", Revision: revision + 9}}}), v1.Creating)
	c = find(t, s, protocol.Found{Computes: []protocol.ComputeFound{{Name: "c", Revision: revision, Problems: []string{"no namespace"}}}})
	is(c, v1.Failed)
	if len(c.ProvisioningErrors) != 1 {
		t.Errorf("%+v", c)
	}
	fits := 3
	c = find(t, s, protocol.Found{Computes: []protocol.ComputeFound{{Name: "c", Revision: revision, Types: []protocol.TypeFound{{Nodes: 2, Largest: 8, Fits: &fits}}}},
		Inventory: protocol.Inventory{InstanceTypes: map[string]protocol.InstanceType{"theirs": {}}}})
	is(c, v1.Succeeded)
	if len(c.Capacity) != 2 || c.Capacity[0].Name != protocol.BuiltinInstanceType || !c.Capacity[0].Default || *c.Capacity[0].Fits != 3 || c.Capacity[1].Origin != v1.OfCluster {
		t.Errorf("%+v", c.Capacity)
	}

	if c, err = putCompute(t, s, kinds("gpu")); err != nil {
		t.Fatal(err)
	}
	is(c, v1.Updating)
	if !c.Status.ModifiedTime.After(c.Status.CreationTime) {
		t.Errorf("%+v", c.Status)
	}
	same, err := putCompute(t, s, kinds("gpu"))
	if err != nil || !same.Status.ModifiedTime.Equal(c.Status.ModifiedTime) {
		t.Errorf("what does not change anything changes %+v, %v", same.Status, err)
	}
	stop()
	stopServer()
	js, _ = serve(t, dir, false)
	s, _ = open(t, js, Options{})
	if c, err = s.Compute(t.Context(), "c"); err != nil || c.DefaultInstanceType != "gpu" {
		t.Errorf("after a restart %+v, %v", c, err)
	}
	is(c, v1.Updating)
	is(find(t, s, protocol.Found{Computes: []protocol.ComputeFound{{Name: "c", Revision: s.Targets("c")[0].Revision}}}), v1.Succeeded)
}

// TestInstanceTypeOfAJob: what a job runs on is fixed when it is accepted, and
// cannot go while it has not ended.
func TestInstanceTypeOfAJob(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	queue := new(line)
	s, _ := open(t, js, Options{Queue: queue})
	withCompute(t, s)
	on := func(name, kind string) (v1.Job, error) {
		job := sample(name)
		job.InstanceType = kind
		v, _, err := s.Submit(t.Context(), job, "user")
		return v, err
	}
	if v, err := on("plain", ""); err != nil || v.Resources.InstanceType != protocol.BuiltinInstanceType {
		t.Errorf("%+v, %v", v.Resources, err)
	}
	if _, err := putCompute(t, s, kinds("gpu")); !errors.Is(err, ErrConflict) {
		t.Errorf("the built-in type went under a job: %v", err)
	}
	if _, err := s.Cancel(t.Context(), "plain", "user"); err != nil {
		t.Fatal(err)
	}
	if _, err := putCompute(t, s, kinds("gpu", "cpu")); err != nil {
		t.Fatal(err)
	}
	find(t, s, protocol.Found{
		Computes: []protocol.ComputeFound{{Name: "c", Revision: s.Targets("c")[0].Revision, Types: []protocol.TypeFound{
			{Name: "gpu", Nodes: 2, Largest: 3}, {Name: "cpu"}, {Name: "theirs", Nodes: 1},
		}}},
		Inventory: protocol.Inventory{InstanceTypes: map[string]protocol.InstanceType{"theirs": {}}},
	})
	for name, want := range map[string]struct{ kind, is, warning string }{
		"default": {"", "gpu", ""},
		"cpu":     {"cpu", "cpu", "no node of cluster c has what instance type cpu selects"},
		"theirs":  {"theirs", "theirs", "instance type theirs is larger than every node"},
	} {
		v, err := on(name, want.kind)
		if err != nil || v.Resources.InstanceType != want.is || queue.jobs[name].InstanceType != want.is {
			t.Errorf("%s: %+v, %v; in the queue %+v", name, v.Resources, err, queue.jobs[name])
		}
		if said := strings.Join(v.Warnings, "; "); (want.warning == "") != (said == "") || !strings.Contains(said, want.warning) {
			t.Errorf("%s: warns %q, want %q", name, said, want.warning)
		}
	}
	many := sample("many")
	many.Instances = 4
	if v, _, err := s.Submit(t.Context(), many, "user"); err != nil || len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "4 instances of gpu are more than cluster c takes when it is empty (3)") {
		t.Errorf("%q, %v", v.Warnings, err)
	}
	if _, err := on("huge", "huge"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), `no instance type "huge"; it has gpu, cpu, theirs`) {
		t.Error(err)
	}
	if _, err := putCompute(t, s, kinds("gpu")); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "1 unfinished jobs use its instance type cpu") {
		t.Error(err)
	}
	if _, err := putCompute(t, s, kinds("cpu", "gpu")); err != nil {
		t.Errorf("another default: %v", err)
	}
	if v, err := s.Job(t.Context(), "default"); err != nil || v.Resources.InstanceType != "gpu" {
		t.Errorf("the default of the time of its acceptance is now %+v, %v", v.Resources, err)
	}
}

// TestTooManySettings: what all computes of a cluster add to an answer has a
// bound, and passing it says which.
func TestTooManySettings(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, _ := open(t, js, Options{})
	withCompute(t, s)
	var names []string
	for i := range protocol.MaxRooms + 1 {
		names = append(names, fmt.Sprint("t", i))
	}
	if _, err := putCompute(t, s, kinds(names...)); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "401 instance types of all its computes, at most 400") {
		t.Error(err)
	}
	large := kinds("a")
	for i := range 60 {
		labels := map[string]string{}
		for n := range protocol.MaxSelectors {
			labels[fmt.Sprintf("label-%d", n)] = strings.Repeat("v", protocol.MaxLabel)
		}
		large.InstanceTypes[fmt.Sprint("l", i)] = protocol.InstanceType{NodeSelector: labels}
	}
	if _, err := putCompute(t, s, large); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "bytes of settings") {
		t.Error(err)
	}
}

// TestDetach: jobs keep a compute, or are canceled first; what is detached takes
// none, and goes with its last job, also after a restart.
func TestDetach(t *testing.T) {
	dir := t.TempDir()
	js, stopServer := serve(t, dir, false)
	s, stop := open(t, js, Options{})
	withCompute(t, s)
	submit(t, s, sample("waits"))
	submit(t, s, sample("runs"))
	if _, ok, err := s.Claim(t.Context(), "c", "runs"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := s.Detach(t.Context(), "c", "admin", false); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "2 unfinished jobs") {
		t.Error(err)
	}
	c, err := s.Detach(t.Context(), "c", "admin", true)
	if err != nil || c.ProvisioningState != v1.Deleting || c.Active != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	wantJob(t, s, "waits", protocol.Canceled, "compute c was detached by admin")
	if _, _, err := s.Submit(t.Context(), sample("late"), "user"); !errors.Is(err, ErrInvalid) {
		t.Errorf("a job for a compute that is leaving: %v", err)
	}
	if _, err := putCompute(t, s, protocol.ComputeSettings{}); !errors.Is(err, ErrConflict) {
		t.Error(err)
	}
	stop()
	stopServer()
	js, _ = serve(t, dir, false)
	s, _ = open(t, js, Options{})
	end := protocol.Event{Ref: protocol.Ref{Job: "runs", Attempt: 1}, Version: protocol.Version{Term: 1, Seq: 1}, State: protocol.Canceled, Time: time.Now()}
	if _, err := s.Fold(t.Context(), "c", []protocol.Event{end}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Compute(t.Context(), "c"); !errors.Is(err, ErrNotFound) {
		t.Errorf("it stays after its last job: %v", err)
	}
	if c, err := putCompute(t, s, protocol.ComputeSettings{}); err != nil || c.ProvisioningState != v1.Creating || c.Queued+c.Active != 0 {
		t.Errorf("attached again: %+v, %v", c, err)
	}
	if _, err := s.Detach(t.Context(), "c", "admin", false); err != nil {
		t.Errorf("without jobs: %v", err)
	}
	if _, err := s.Detach(t.Context(), "c", "admin", false); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}
