package cluster

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/trainrelay/trainrelay/protocol"
)

// refusals tells, by the API server's words, why a Job's pods are refused and
// whether that can change while the Job waits. Quotas are freed by others'
// pods. Pod Security and LimitRanges judge the pod itself, which stays as it
// is: a Job that they refuse is ended rather than left waiting for ever. What
// else refuses, such as a webhook, may think better of it.
var refusals = []struct {
	words string
	code  protocol.ReasonCode
	final bool
}{
	{"exceeded quota", protocol.QuotaExceeded, false},
	{"failed quota", protocol.QuotaExceeded, false},
	{"violates PodSecurity", protocol.PodRefused, true},
	{"is forbidden: maximum ", protocol.PodRefused, true},
	{"is forbidden: minimum ", protocol.PodRefused, true},
	{"is forbidden: [", protocol.PodRefused, true}, // several of them
	{"", protocol.PodRefused, false},
}

// refusal is why pods are missing, by the newest FailedCreate event of their
// Job. It is final only once the Job controller has met it twice, so that a
// policy in the middle of a change ends nothing.
func refusal(events []*corev1.Event) (reason *protocol.Reason, final bool) {
	var newest *corev1.Event
	met := 0
	for _, e := range events {
		met += times(e)
		if newest == nil || newest.LastTimestamp.Before(&e.LastTimestamp) {
			newest = e
		}
	}
	if newest == nil {
		return nil, false
	}
	for _, r := range refusals {
		if strings.Contains(newest.Message, r.words) {
			words := strings.TrimPrefix(newest.Message, "Error creating: ")
			return protocol.NewReason(r.code, "%s", words), r.final && met > 1
		}
	}
	panic("the last of refusals matches every message")
}

// times is how often an event happened.
func times(e *corev1.Event) int {
	if e.Series != nil {
		return int(e.Series.Count)
	}
	return max(1, int(e.Count))
}
