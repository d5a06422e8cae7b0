// Package protocol is what crosses the firewall between a relay and the agent
// of a cluster: messages, subjects, the states of a job, limits and the codec.
// It does no I/O and imports only the standard library.
//
// # Messages
//
// The agent dials the relay; every exchange is a NATS request that the agent
// sends, answered by the relay once its effect is durable:
//
//	sync   up.CLUSTER.sync    what the cluster holds and has room for → what to start and to cancel
//	event  up.CLUSTER.event   what became of attempts                 → which events were folded
//	log    up.CLUSTER.log     a run of a pod's output                 → the position reached
//	nudge  nudge.CLUSTER.WORD relay → agent, empty, may be lost: "sync now"
//
// A cluster's agent joins before that, once, over HTTPS, with an [Enrol].
//
// A message is one JSON object in an [Envelope] that names the protocol's
// version and the message's kind. [Encode] and [Decode] refuse what is too
// large, of another version or kind, or invalid, with an error that names the
// field; a receiver answers such a message with an error and lives on.
// Unknown fields are ignored, so that a newer peer may say more.
//
// What a relay answers to a sync is signed, and is believed by the key that the
// agent learnt when it joined ([DecodeSigned]): whoever carries the message can
// lose it, and not alter, replay or redirect it.
//
// # Who writes what
//
// The agent alone writes what became of an attempt, as [Event]s ordered by
// [Version], with exactly one end per attempt. The relay alone writes
// acceptance, claims, cancel requests, and the ends of what was never claimed.
// [Progress] folds events: in any order, any number of times, the outcome is
// the same, and an end once folded never changes.
package protocol
