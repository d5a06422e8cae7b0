package apiserver

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trainrelay/trainrelay/agent/check"
	"github.com/trainrelay/trainrelay/agent/workload"
	"github.com/trainrelay/trainrelay/protocol"
)

// behaviour is something that the agent does, with the rights that it takes, and
// what docs/rights.md says of each: what does not work without it. Who changes
// one has the other before his eyes.
type behaviour struct {
	name   string
	rights map[string]string
	// works reports whether the agent of the plot does it; watchless says that it
	// may not watch something.
	works func(p *plot, watchless bool) bool
}

var behaviours = []behaviour{
	{"takes work for the namespace", map[string]string{
		"computes: list jobs":   "no work is taken for the namespace",
		"computes: list pods":   "no work is taken for the namespace",
		"computes: list events": "no work is taken for the namespace",
		"computes: create jobs": "no job starts",
	}, startsJobs},
	{"tells that a Job is not there", map[string]string{
		"computes: get jobs": "a Job that is there already is not adopted, and one that is gone does not end its attempt",
	}, tellsMissing},
	{"notices the end of a Job", map[string]string{
		"computes: watch jobs": "the end of a Job is not noticed",
	}, noticesEnd},
	{"stops a job at its timeout", map[string]string{
		"computes: patch jobs": "a job runs past its timeout, and finished Jobs are not removed",
	}, stopsAtTimeout},
	{"stops a canceled job", map[string]string{
		"computes: delete jobs": "a canceled job runs on",
	}, cancels},
	{"sees a job running", map[string]string{
		"computes: watch pods": "a job that runs is not seen running, and its output not shipped",
	}, seesRunning},
	{"says what a quota refuses", map[string]string{
		"computes: watch events": "a job whose pods a quota or Pod Security refuses does not say so",
	}, tellsQuota},
	{"gives a job its token", map[string]string{
		"computes: create secrets": "a job with code, or with secret values, does not start",
	}, givesToken},
	{"tells a namespace that is missing from one that is forbidden", map[string]string{
		"cluster: get namespaces": "a job for a namespace that is gone is told that it is forbidden, not that it is missing",
	}, tellsNamespace},
	{"joins, leads and syncs", map[string]string{
		"azureml: get secrets named trainrelay-agent":    "the agent does not find the cluster's credentials, and waits",
		"azureml: update secrets named trainrelay-agent": "the cluster cannot join, and does not keep the relay's new keys",
		"azureml: get leases named trainrelay-agent":     "no leader is found, so nothing runs",
		"azureml: update leases named trainrelay-agent":  "no leader is found, so nothing runs",
	}, joinsAndLeads},
	{"ships output", map[string]string{
		"computes: get pods/log": "there is no output",
	}, shipsOutput},
	{"sees that the extension is installed", map[string]string{
		"azureml: get daemonsets named trainrelay-agent":               "an extension is never Installed",
		"azureml: get daemonsets named nvidia-device-plugin-daemonset": "an extension with it is never Installed",
		"azureml: get daemonsets named csi-blob-node":                  "an extension with it is never Installed",
		"azureml: get deployments named csi-blob-controller":           "an extension with it is never Installed",
	}, seesExtension},
	{"says what refuses the extension's pods", map[string]string{
		"azureml: list events": "an extension whose pods Pod Security or a quota refuses does not say so",
	}, tellsRefusedComponent},
	{"tells what the cluster has", map[string]string{
		"cluster: list nodes":         "nobody is told what the cluster has, nor warned of a job that is too big for it",
		"cluster: watch nodes":        "what the relay knows of the nodes grows old",
		"cluster: list pods":          "nobody is told what is free, and how many instances would fit now",
		"cluster: watch pods":         "what the relay knows of what is free grows old",
		"cluster: list instancetypes": "the cluster's own instance types are not known",
	}, tellsInventory},
	{"leaves a node to its own agent", map[string]string{
		"azureml: list pods":  "the leader follows the output of every node, also of those that have an agent of their own",
		"azureml: watch pods": "the leader does not notice that a node gets or loses its agent",
	}, leavesNode},
}

// rightName is how behaviours name a right.
func rightName(r check.Right) string { return string(r.Where) + ": " + r.String() }

// TestRBACMinimal: with exactly the chart's rights, held by a ServiceAccount,
// everything works; with one less, what docs/rights.md says does not.
func TestRBACMinimal(t *testing.T) {
	covered := make(map[string]bool)
	rights := make(map[string]check.Right)
	for _, r := range check.Rights() {
		rights[rightName(r)] = r
	}
	for _, b := range behaviours {
		plotFor := newPlot
		if _, optional := b.rights["cluster: list pods"]; optional {
			plotFor = func(t *testing.T, without *check.Right) *plot { return newPlotWith(t, without, nil) }
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			if p := plotFor(t, nil); !b.works(p, false) {
				t.Error("does not work with all rights")
			}
		})
		for name, without := range b.rights {
			right, ok := rights[name]
			if !ok || right.Without != without {
				t.Errorf("%s, without which %s: docs/rights.md has %q", name, without, right.Without)
				continue
			}
			covered[name] = true
			t.Run(b.name+" without "+name, func(t *testing.T) {
				t.Parallel()
				p := plotFor(t, &right)
				p.patience = 5 * time.Second
				if b.works(p, right.Verb == "watch") {
					t.Errorf("works all the same: is the right needed?")
				}
				if denied := p.deniedRights(); !slices.Contains(denied, name) {
					t.Errorf("fails, and not for want of it: the API server has denied %q", denied)
				}
			})
		}
	}
	for name := range rights {
		if !covered[name] {
			t.Errorf("nothing shows that %s is needed", name)
		}
	}
}

func startsJobs(p *plot, _ bool) bool {
	r := p.room()
	ref := r.grant(unstarted("starts"), p.jobs)
	return p.eventually(func() bool {
		return jobOf(p.T, p.jobs, ref) != nil && sees(r, ref, protocol.Queued, protocol.Unschedulable)
	})
}

// sees reports whether a room has observed an attempt in a state.
func sees(r *room, ref protocol.Ref, state protocol.State, code protocol.ReasonCode) bool {
	for _, e := range r.observed(ref) {
		if e.State == state && codeOf(e) == code {
			return true
		}
	}
	return false
}

func tellsMissing(p *plot, _ bool) bool {
	r := p.room()
	ref := protocol.Ref{Job: "never", Attempt: 1}
	r.Cancel(p.Context(), cancelOf(ref), protocol.Compute{})
	return p.eventually(func() bool { return sees(r, ref, protocol.Canceled, protocol.UserCanceled) })
}

func noticesEnd(p *plot, watchless bool) bool {
	r := p.room()
	ref := r.grant(unstarted("ends"), p.jobs)
	pods := schedule(p.T, p.jobs, ref)
	runs(p.T, pods[0])
	p.settle(watchless)
	exits(p.T, pods[0], 0)
	return p.eventually(func() bool { return sees(r, ref, protocol.Completed, "") })
}

func stopsAtTimeout(p *plot, _ bool) bool {
	r := p.room()
	ref := r.grant(unstarted("timeout", func(j *protocol.Job) { j.TimeoutSeconds = 1 }), p.jobs)
	pods := schedule(p.T, p.jobs, ref)
	runs(p.T, pods[0])
	r.await(ref, protocol.Running, "")
	return p.eventually(func() bool { return jobOf(p.T, p.jobs, ref).Spec.ActiveDeadlineSeconds != nil })
}

func cancels(p *plot, _ bool) bool {
	r := p.room()
	ref := r.grant(unstarted("canceled"), p.jobs)
	r.await(ref, protocol.Queued, protocol.Unschedulable)
	r.Cancel(p.Context(), cancelOf(ref), protocol.Compute{})
	return p.eventually(func() bool { return jobOf(p.T, p.jobs, ref) == nil })
}

func seesRunning(p *plot, watchless bool) bool {
	r := p.room()
	p.settle(watchless)
	ref := r.grant(unstarted("runs"), p.jobs)
	runs(p.T, schedule(p.T, p.jobs, ref)[0])
	return p.eventually(func() bool { return sees(r, ref, protocol.Running, "") })
}

func tellsQuota(p *plot, watchless bool) bool {
	quotas := site.Client().CoreV1().ResourceQuotas(p.jobs)
	_, err := quotas.Create(p.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "train"},
		Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourceRequestsCPU: resource.MustParse("10m")}}}, metav1.CreateOptions{})
	if err != nil {
		p.Fatal(err)
	}
	r := p.room()
	p.settle(watchless)
	ref := r.grant(unstarted("quota"), p.jobs)
	return p.eventually(func() bool { return sees(r, ref, protocol.Queued, protocol.QuotaExceeded) })
}

func givesToken(p *plot, _ bool) bool {
	r := p.room()
	ref := r.grant(unstarted("code", func(j *protocol.Job) { j.Code = "sha256:" + strings.Repeat("0", 64) }), p.jobs)
	return p.eventually(func() bool {
		_, err := site.Client().CoreV1().Secrets(p.jobs).Get(p.Context(), workload.Name(ref), metav1.GetOptions{})
		return err == nil
	})
}

func tellsNamespace(p *plot, _ bool) bool {
	r := p.room()
	ref := r.grant(unstarted("gone"), p.gone)
	return p.eventually(func() bool { return sees(r, ref, protocol.Failed, protocol.NamespaceMissing) })
}
