package workload

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/trainrelay/trainrelay/protocol"
)

// ResourcesOf is what a pod of the instance type gets. CPU and memory have
// defaults; a request or limit that is missing is like the other one. A
// resource of which it wants nothing is left out. The error joins all that is
// wrong.
func ResourcesOf(t *protocol.InstanceType) (corev1.ResourceRequirements, error) {
	takes := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	names := map[string]string{"cpu": protocol.DefaultCPU, "memory": protocol.DefaultMemory}
	for _, of := range []map[string]string{t.Resources.Requests, t.Resources.Limits} {
		for name := range of {
			if _, has := names[name]; !has {
				names[name] = ""
			}
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(names)) {
		request, limit, err := amounts(t, name, names[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		for _, a := range []struct {
			list   corev1.ResourceList
			amount resource.Quantity
		}{{takes.Requests, request}, {takes.Limits, limit}} {
			if !a.amount.IsZero() {
				a.list[corev1.ResourceName(name)] = a.amount
			}
		}
	}
	return takes, errors.Join(errs...)
}

// amounts are the request and the limit of one resource.
func amounts(t *protocol.InstanceType, name, fallback string) (request, limit resource.Quantity, _ error) {
	asks, asked := t.Resources.Requests[name]
	most, bounded := t.Resources.Limits[name]
	switch {
	case !asked && !bounded:
		asks, most = fallback, fallback
	case !asked:
		asks = most
	case !bounded:
		most = asks
	}
	request, err := quantity("requests", asks)
	if err != nil {
		return request, limit, err
	}
	if limit, err = quantity("limits", most); err != nil {
		return request, limit, err
	}
	switch {
	case isExtended(name) && !request.Equal(limit):
		return request, limit, fmt.Errorf("requests %s and limits %s have to be equal, as for every resource of devices", asks, most)
	case isExtended(name) && request.MilliValue()%1000 != 0:
		return request, limit, fmt.Errorf("%s is not a whole number, as every resource of devices has to be", asks)
	case request.Cmp(limit) > 0:
		return request, limit, fmt.Errorf("requests %s are more than limits %s", asks, most)
	case (name == "cpu" || name == "memory") && limit.IsZero():
		return request, limit, errors.New("0 lets nothing run")
	}
	return request, limit, nil
}

func quantity(field, text string) (resource.Quantity, error) {
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return q, fmt.Errorf("%s: %q is not a quantity, such as 2, 500m or 16Gi", field, protocol.Cut(text, 80))
	}
	if q.Sign() < 0 {
		return q, fmt.Errorf("%s: %s is negative", field, text)
	}
	return q, nil
}

// isExtended reports whether a resource is one of devices, such as
// nvidia.com/gpu, which Kubernetes gives as a whole and not more of than asked.
func isExtended(name string) bool {
	return strings.Contains(name, "/") && !strings.HasPrefix(name, "kubernetes.io/")
}

// TolerationsOf are those of the compute's pods.
func TolerationsOf(on *protocol.Compute) []corev1.Toleration {
	var all []corev1.Toleration
	for _, t := range on.Tolerations {
		all = append(all, corev1.Toleration{
			Key: t.Key, Operator: corev1.TolerationOperator(t.Operator), Value: t.Value,
			Effect: corev1.TaintEffect(t.Effect), TolerationSeconds: t.TolerationSeconds,
		})
	}
	return all
}
