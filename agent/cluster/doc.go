// Package cluster is everything between the link to the relay and the
// Kubernetes API: it creates, adopts, watches and deletes the Jobs of attempts,
// and tells what became of each. One process at a time runs it, the leader.
//
// # Level-triggered
//
// Whatever happens to an attempt, be it a wish of the relay, a change of its
// Job, pods or events, or time passing, puts it into a queue; a worker then
// looks at all there is and does what is missing. A queue hands an attempt to
// one worker at a time, so start, cancel and resolve never race each other.
// [derive] tells the state from the Job, its pods and its events; nothing is
// counted from the edges of a watch.
//
// # Guarantees
//
// An attempt gets one Job at most: its name is a function of the attempt, and
// where the name is taken, annotations decide whether that Job is adopted. A
// Job is deleted only where the relay named it, in the foreground, and under
// the precondition of its UID. That a Job is gone is believed only after the
// API server, asked directly, does not have it. Of each attempt one end is
// observed; whatever the process derives again after a restart is the same.
//
// Nothing is kept here that the API or the relay does not have. A Job that the
// agent itself brings to an end carries that end in an annotation first
// ([workload.Stop]), so whoever leads next goes on with it.
//
// # Timeouts
//
// At the end of an attempt's running time its Job gets the annotation and an
// activeDeadlineSeconds that has passed, in one patch. The Job controller then
// stops the pods and marks the Job as Failed, which stays to be looked at; no
// restart of the agent, at any moment, can mistake that for somebody else's
// deletion. Pods that can never be created end the same way.
//
// # When things fail
//
// While the API server is away, or a watch has not caught up, Synced says so
// and the relay grants nothing. A create that fails is tried again until its
// deadline and then dropped, for the relay to grant again; every other work is
// tried again, with growing delays, for as long as it is wanted. A refusal that
// will not change ends the attempt with the API server's words.
//
// The policy of the cluster's admin ([Policy]) is asked right before a Job is
// created, and never of a Job that exists. What it refuses has ended; while
// there is none that could be asked, Refusing says so, the relay grants
// nothing, and what it granted before is tried until its deadline like any
// create that fails.
//
// Sealed values are opened before the Job is created, to know that they can be,
// and again for its Secrets. A value that cannot be opened ends the attempt as
// SecretUnreadable, before or after; its Job keeps the boxes, so a restart in
// between loses nothing.
//
// A namespace that the agent may not watch does not keep the others from
// working: attempts for it end as NotPermitted or NamespaceMissing.
//
// # Permissions
//
// In each of Options.Namespaces, by a Role:
//
//	batch  jobs      get list watch create patch delete
//	""     pods      list watch
//	""     events    list watch
//	""     secrets   create
//
// and by a ClusterRole, to tell a missing namespace from a forbidden one:
//
//	""     namespaces  get
package cluster
