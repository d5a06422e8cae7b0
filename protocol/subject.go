package protocol

import "strings"

// Prefixes and verbs of the subjects between relay and agents.
const (
	upPrefix    = "up."
	nudgePrefix = "nudge."

	VerbSync  = "sync"
	VerbEvent = "event"
	VerbLog   = "log"
)

// UpSubject is where the agent of a cluster sends requests of a verb.
func UpSubject(cluster, verb string) string { return upPrefix + cluster + "." + verb }

// UpWildcard matches every request of every agent: what the relay answers.
func UpWildcard() string { return upPrefix + "*.*" }

// ParseUpSubject splits a request's subject into cluster and verb.
func ParseUpSubject(subject string) (cluster, verb string, ok bool) {
	rest, ok := strings.CutPrefix(subject, upPrefix)
	if !ok {
		return "", "", false
	}
	cluster, verb, ok = strings.Cut(rest, ".")
	return cluster, verb, ok && cluster != "" && verb != "" && !strings.Contains(verb, ".")
}

// NudgeSubject is where the relay asks the agent of a cluster to sync now; word
// is the one that the agent gave in its last sync.
func NudgeSubject(cluster, word string) string { return nudgePrefix + cluster + "." + word }

// InboxPrefix is the prefix of the inboxes of a cluster's agents, without the
// dot that follows it.
func InboxPrefix(cluster string) string { return "_INBOX_" + cluster }
