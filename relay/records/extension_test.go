package records

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trainrelay/trainrelay/internal/extension"
	"github.com/trainrelay/trainrelay/internal/v1"
	"github.com/trainrelay/trainrelay/protocol"
)

// putExtension gives the cluster "c" an extension.
func putExtension(t *testing.T, s *Store, settings ...string) v1.Extension {
	t.Helper()
	given, err := extension.Parse(settings)
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := s.PutExtension(t.Context(), "c", "amlarc-compute", v1.ExtensionSettings{ExtensionType: extension.Type, Settings: given}, "admin")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestExtension: an extension is Pending until the cluster's agent has seen it
// as it is wanted now, and outlives the relay and the cluster.
func TestExtension(t *testing.T) {
	dir := t.TempDir()
	js, stopServer := serve(t, dir, false)
	s, stop := open(t, js, Options{})
	withCompute(t, s)

	made := putExtension(t, s, "enableTraining=True")
	const apply = "trainrelay k8s-extension update --name amlarc-compute --cluster-name c --apply"
	pending := func(e v1.Extension, why string) {
		t.Helper()
		if e.InstallState != protocol.Pending || !strings.Contains(e.Reason, why) || e.ErrorInfo != nil {
			t.Errorf("%+v, want Pending: %s", e, why)
		}
	}
	pending(made, "cluster c has never connected")
	pending(made, apply)
	if made.ProvisioningState != "Creating" || made.ExtensionType != extension.Type || made.Scope.Cluster.ReleaseNamespace != "azureml" {
		t.Errorf("%+v", made)
	}
	wanted := s.Extension("c")
	if wanted == nil || wanted.Revision != made.Revision || wanted.Settings[extension.InstallBlobfuseFlexvol] != extension.True {
		t.Errorf("the agent is told of %+v", wanted)
	}

	report := func(revision uint64, state protocol.InstallState, reason string) v1.Extension {
		t.Helper()
		said := &protocol.Sync{Session: "session", Found: &protocol.Found{Time: time.Now(), Extension: &protocol.ExtensionFound{
			Revision: revision, State: state, Reason: reason, Components: []protocol.Component{{Name: "agent", Ready: state == protocol.Installed, Detail: "1 of 1"}},
		}}}
		if _, _, err := s.Term(t.Context(), "c", "session", 0); err != nil {
			t.Fatal(err)
		}
		s.Seen("c", said, 0)
		if _, err := s.Report(t.Context(), "c", said); err != nil {
			t.Fatal(err)
		}
		e, err := s.ExtensionOf(t.Context(), "c", "amlarc-compute")
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	pending(report(made.Revision+100, protocol.Installed, ""), apply) // of another revision
	if e := report(made.Revision, protocol.InstallFailed, "csi-blob-node: ImagePullBackOff"); e.ProvisioningState != "Failed" ||
		e.ErrorInfo == nil || e.ErrorInfo.Message != "csi-blob-node: ImagePullBackOff" || e.Statuses[0].DisplayStatus != "NotReady" {
		t.Errorf("%+v", e)
	}
	if e := report(made.Revision, protocol.Installed, ""); e.InstallState != protocol.Installed || e.ProvisioningState != "Succeeded" ||
		e.Reason != "" || e.LastStatus == nil || len(e.Statuses) != 1 || e.Statuses[0].Code != "agent" {
		t.Errorf("%+v", e)
	}

	if s.Analyzed("c") || !s.Analyzed("d") {
		t.Error("output is analyzed where the setting says no, or is not where nothing does")
	}

	// Another one is wanted now.
	changed := putExtension(t, s, "enableTraining=True", "logAnalyticsWS=true")
	pending(changed, apply)
	if changed.ProvisioningState != "Updating" || !changed.Created.Equal(made.Created) || !s.Analyzed("c") {
		t.Errorf("%+v", changed)
	}
	stop()
	stopServer()
	js, _ = serve(t, dir, false)
	s, _ = open(t, js, Options{})
	e, err := s.ExtensionOf(t.Context(), "c", "amlarc-compute")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(changed.Settings, e.Settings); diff != "" || e.Revision != changed.Revision {
		t.Errorf("after a restart %+v", e)
	}
	if _, err := s.Disconnect(t.Context(), "c", "admin", false); err != nil {
		t.Fatal(err)
	}
	e, err = s.ExtensionOf(t.Context(), "c", "amlarc-compute")
	if err != nil {
		t.Fatal(err)
	}
	pending(e, "cluster c was disconnected")

	if err := s.DeleteExtension(t.Context(), "c", "other"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "it has amlarc-compute") {
		t.Error(err)
	}
	if err := s.DeleteExtension(t.Context(), "c", "amlarc-compute"); err != nil {
		t.Fatal(err)
	}
	if s.Extension("c") != nil || !s.Analyzed("c") {
		t.Error("a deleted extension is still wanted")
	}
	if _, err := s.Extensions(t.Context(), "c"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a cluster that is no more: %v", err)
	}
}

// TestExtensionRefused: what cannot be is refused with what can.
func TestExtensionRefused(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, _ := open(t, js, Options{})
	withCompute(t, s)
	first := putExtension(t, s, "enableTraining=True")
	for want, put := range map[string]struct {
		cluster, name string
		with          v1.ExtensionSettings
		err           error
	}{
		"there is no cluster":                                {"nowhere", "amlarc-compute", v1.ExtensionSettings{}, ErrInvalid},
		"is not a cluster extension's name":                  {"c", "Aml Arc", v1.ExtensionSettings{}, ErrInvalid},
		"the valid one is " + "Microsoft.AzureML.Kubernetes": {"c", "amlarc-compute", v1.ExtensionSettings{ExtensionType: "Microsoft.Flux"}, ErrInvalid},
		"valid settings are":                                 {"c", "amlarc-compute", v1.ExtensionSettings{Settings: map[string]string{"x": "y"}}, ErrInvalid},
		"it has one":                                         {"c", "second", v1.ExtensionSettings{}, ErrConflict},
		"somebody else changed it":                           {"c", "amlarc-compute", v1.ExtensionSettings{Revision: first.Revision + 1}, ErrConflict},
	} {
		if want == "it has one" {
			want = "cluster c has one, amlarc-compute"
		}
		_, _, err := s.PutExtension(t.Context(), put.cluster, put.name, put.with, "admin")
		if !errors.Is(err, put.err) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v, want %v: %s", err, put.err, want)
		}
	}
	now, err := s.ExtensionOf(t.Context(), "c", "amlarc-compute")
	if err != nil || now.Revision != first.Revision {
		t.Errorf("a refusal changed it: %+v, %v", now, err)
	}
}

// TestTrainingOff: a cluster with the extension takes jobs only where that says
// so; without, it does.
func TestTrainingOff(t *testing.T) {
	js, _ := serve(t, t.TempDir(), false)
	s, _ := open(t, js, Options{})
	withCompute(t, s)
	accepted := func(name string) error {
		_, _, err := s.Submit(t.Context(), sample(name), "user")
		return err
	}
	if err := accepted("without"); err != nil {
		t.Fatal(err)
	}
	putExtension(t, s)
	err := accepted("refused")
	if !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), "setting enableTraining of its extension amlarc-compute is False") ||
		!strings.Contains(fmt.Sprint(err), "trainrelay k8s-extension update --name amlarc-compute --cluster-name c --configuration-settings enableTraining=True") {
		t.Error(err)
	}
	if err := accepted("without"); err != nil {
		t.Errorf("a job that was accepted is not the same any more: %v", err)
	}
	putExtension(t, s, "enableTraining=True")
	if err := accepted("with"); err != nil {
		t.Error(err)
	}
}
