package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trainrelay/trainrelay/agent/check"
	"github.com/trainrelay/trainrelay/agent/policy"
)

// placeKept is how long it counts that a namespace is in order. One that is not
// is looked at each time, so that mending it shows.
const placeKept = time.Minute

// place says what keeps jobs out of a namespace: that the agent is not set up
// for it, that it is not there, missing rights, or the cluster's policy.
func (a *Agent) place(rules *policy.File) func(context.Context, string) error {
	var mu sync.Mutex
	good := map[string]time.Time{}
	return func(ctx context.Context, namespace string) error {
		if err := rules.Place(namespace); err != nil {
			return err
		}
		mu.Lock()
		fresh := time.Since(good[namespace]) < placeKept
		mu.Unlock()
		if fresh {
			return nil
		}
		err := check.Place(ctx, a.client, namespace)
		if !slices.Contains(a.o.Namespaces, namespace) {
			err = notSetUp(err, namespace, a.o.Namespaces)
		} else if err != nil {
			err = fmt.Errorf("%w; the chart puts the agent's Role there: %s", err, upgrade(a.o.Namespaces))
		}
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		good[namespace] = time.Now()
		return nil
	}
}

func notSetUp(err error, namespace string, has []string) error {
	more := upgrade(append(slices.Clone(has), namespace))
	if err != nil && strings.Contains(err.Error(), "does not exist") {
		return fmt.Errorf("%w, and let the agent work there: %s", err, more)
	}
	return fmt.Errorf("the agent is not set up for namespace %s, only for %s; let it work there: %s", namespace, strings.Join(has, ", "), more)
}

// upgrade is the command that sets the agent up for namespaces.
func upgrade(namespaces []string) string {
	return fmt.Sprintf("helm upgrade trainrelay-agent deploy/charts/trainrelay-agent --namespace azureml --reset-then-reuse-values --set 'computeNamespaces={%s}' (or trainrelay compute attach … --apply)", strings.Join(namespaces, ","))
}

// way is how the relay is reached, and how long the last sync took.
func (a *Agent) way() (proxy string, roundTrip time.Duration) {
	route := a.dialer.Route(hostPort(a.o.Relay))
	if a.o.NATS != nil {
		route = a.dialer.Route(a.o.NATS.Host)
	}
	return strings.TrimPrefix(route, "through "), a.rooms.link.RoundTrip()
}
