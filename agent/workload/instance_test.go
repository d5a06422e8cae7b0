package workload

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/trainrelay/trainrelay/protocol"
)

func TestResourcesOf(t *testing.T) {
	type list = map[string]string
	for name, tc := range map[string]struct {
		requests, limits         list
		wantRequests, wantLimits list
		wrong                    string
	}{
		"nothing said":    {wantRequests: list{"cpu": "1", "memory": "4Gi"}, wantLimits: list{"cpu": "1", "memory": "4Gi"}},
		"as in the seed":  {requests: list{"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "0"}, limits: list{"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "0"}, wantRequests: list{"cpu": "4", "memory": "16Gi"}, wantLimits: list{"cpu": "4", "memory": "16Gi"}},
		"requests alone":  {requests: list{"cpu": "500m"}, wantRequests: list{"cpu": "500m", "memory": "4Gi"}, wantLimits: list{"cpu": "500m", "memory": "4Gi"}},
		"limits alone":    {limits: list{"memory": "1Gi", "nvidia.com/gpu": "2"}, wantRequests: list{"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "2"}, wantLimits: list{"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "2"}},
		"bursting":        {requests: list{"cpu": "100m"}, limits: list{"cpu": "2"}, wantRequests: list{"cpu": "100m", "memory": "4Gi"}, wantLimits: list{"cpu": "2", "memory": "4Gi"}},
		"disks":           {limits: list{"ephemeral-storage": "10Gi"}, wantRequests: list{"cpu": "1", "memory": "4Gi", "ephemeral-storage": "10Gi"}, wantLimits: list{"cpu": "1", "memory": "4Gi", "ephemeral-storage": "10Gi"}},
		"not a quantity":  {requests: list{"cpu": "many"}, wrong: `cpu: requests: "many" is not a quantity`},
		"more than limit": {requests: list{"memory": "2Gi"}, limits: list{"memory": "1Gi"}, wrong: "memory: requests 2Gi are more than limits 1Gi"},
		"unequal devices": {requests: list{"nvidia.com/gpu": "1"}, limits: list{"nvidia.com/gpu": "2"}, wrong: "nvidia.com/gpu: requests 1 and limits 2 have to be equal"},
		"half a device":   {limits: list{"nvidia.com/gpu": "500m"}, wrong: "500m is not a whole number"},
		"no processor":    {limits: list{"cpu": "0"}, wrong: "cpu: 0 lets nothing run"},
		"negative":        {limits: list{"memory": "-1"}, wrong: "memory: requests: -1 is negative"},
		"all at once":     {limits: list{"memory": "x", "cpu": "y"}, wrong: `memory: requests: "x" is not a quantity`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ResourcesOf(&protocol.InstanceType{Resources: protocol.Amounts{Requests: tc.requests, Limits: tc.limits}})
			if tc.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wrong) {
					t.Errorf("got %v, want %s", err, tc.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]list{tc.wantRequests, tc.wantLimits}, []list{texts(got.Requests), texts(got.Limits)}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func texts(amounts corev1.ResourceList) map[string]string {
	texts := map[string]string{}
	for name, q := range amounts {
		texts[string(name)] = q.String()
	}
	return texts
}

// TestNoSuchType: a start on an instance type that the compute has lost makes
// no Job.
func TestNoSuchType(t *testing.T) {
	start, compute := gpus()
	start.InstanceType = "big_cpu_sku"
	if _, err := Job(start, compute, options); err == nil || !strings.Contains(err.Error(), `compute onprem has no instance type "big_cpu_sku"; it has gpu_instance`) {
		t.Error(err)
	}
}
