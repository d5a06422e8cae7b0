package apiserver

import (
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

// behaviour is something that the agent does, with the rights that it takes.
type behaviour struct {
	name   string
	rights []string
	// works reports whether the agent of the plot does it; watchless says that it
	// may not watch something.
	works func(p *plot, watchless bool) bool
}

var behaviours = []behaviour{
	{"takes work for the namespace", []string{"computes: list jobs", "computes: list pods", "computes: list events", "computes: create jobs"}, startsJobs},
	{"tells that a Job is not there", []string{"computes: get jobs"}, tellsMissing},
	{"notices the end of a Job", []string{"computes: watch jobs"}, noticesEnd},
	{"stops a job at its timeout", []string{"computes: patch jobs"}, stopsAtTimeout},
	{"stops a canceled job", []string{"computes: delete jobs"}, cancels},
	{"sees a job running", []string{"computes: watch pods"}, seesRunning},
	{"says what a quota refuses", []string{"computes: watch events"}, tellsQuota},
	{"gives a job its token", []string{"computes: create secrets"}, givesToken},
	{"tells a namespace that is missing from one that is forbidden", []string{"cluster: get namespaces named COMPUTE"}, tellsNamespace},
	{"joins, leads and syncs", []string{
		"azureml: get secrets named trainrelay-agent", "azureml: update secrets named trainrelay-agent",
		"azureml: get leases named trainrelay-agent", "azureml: update leases named trainrelay-agent"}, joinsAndLeads},
	{"ships output", []string{"computes: get pods/log"}, shipsOutput},
	{"leaves a node to its own agent", []string{"azureml: list pods", "azureml: watch pods"}, leavesNode},
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
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			if p := newPlot(t, nil); !b.works(p, false) {
				t.Error("does not work with all rights")
			}
		})
		for _, name := range b.rights {
			right, ok := rights[name]
			if !ok {
				t.Errorf("%s is no right of the agent", name)
			}
			covered[name] = true
			t.Run(b.name+" without "+name, func(t *testing.T) {
				t.Parallel()
				p := newPlot(t, &right)
				p.patience = 5 * time.Second
				if b.works(p, right.Verb == "watch") {
					t.Errorf("works all the same: is the right needed?")
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
