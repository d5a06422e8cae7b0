// Package link is the one place in a cluster that knows what the relay knows.
// While its process leads, it keeps the relay told of what the cluster holds
// and has room for, hands over what the relay answers, and tells what became
// of attempts.
//
// # Syncs
//
// A sync is sent when leading begins, when the connection is back, on a nudge,
// when room or work changed ([Link.Wake]), every [protocol.SyncInterval], and
// at once where an answer left something out. One is outstanding at a time,
// under a fresh unguessable nonce; an answer to any other is dropped. What an
// answer starts may be created until [protocol.StartDeadline] after its sync
// was sent. A lost answer needs no care: the next sync brings the same again.
//
// # Whom it believes
//
// What an answer to a sync orders is acted on only where it was signed with a
// key of the relay that this cluster trusts, for this cluster, as the answer to
// the outstanding sync, and has not expired: whoever carries it can lose it,
// and no more. Any other answer is a breach: it is logged, counted, told to the
// relay with the next syncs until one is answered believably, and shown by
// [Link.Status]. The keys are those learnt at join, and then what believed
// answers bring, once Options.SaveTrust has kept it; where that fails, the next
// answer brings it again.
//
// While the cluster is out of step with its API server, syncs say so, offer no
// room, and nothing in their answers is acted on.
//
// While the cluster refuses all work, as without a policy, syncs say why and
// offer no room, so that jobs wait where everybody can see it; cancels and all
// else go on.
//
// # Events
//
// [Link.Observe] never blocks. Of each attempt the newest observation waits to
// be told; what it replaced is skipped, except that an end is never replaced.
// Versions are given when an event is sent, so a new term renews them all. An
// event is told until the relay has answered for it, and not again after. What
// waits is bounded by the attempts alive, and is forgotten when leading ends:
// the next leader observes the cluster afresh.
//
// While an end waits to be told, its attempt counts as held and the relay's
// wishes for it are passed over: it can neither start again nor end twice.
//
// # When things fail
//
// A relay that is away, or refuses for the moment, is asked again for ever,
// with growing, jittered delays; the log says what is waited for, once for
// each new cause, and [Link.Status] has it for health checks. A sync refused
// for good, as when a newer leader took over, ends [Link.Lead] with an error:
// the process should give up its lease. An event refused for good is put
// behind the others and tried again, slowly.
package link
