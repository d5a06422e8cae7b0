// Package gateway is the HTTP server inside the cluster from which training
// pods fetch the code of their attempt:
//
//	GET /v1/attempts/{job}/{attempt}/code
//
// The answer is what the relay answered, streamed through; nothing is kept. An
// agent on any node can serve any pod: what it needs is derived from a secret
// that all agents of the cluster share.
//
// # Who may
//
// A request carries a bearer token, made by [Tokens] for one attempt and good
// for that attempt only. It is plain HTTP: the token and the code cross the pod
// network unencrypted, and are as safe from other pods as that network is. A
// token is of no use outside the cluster, nor for any other attempt, and the
// relay stops serving an attempt that has ended.
//
// # When things fail
//
// A pod is told in plain text what went wrong, and whether trying again may
// help: 401 and 403 for its token, 404 where the relay has no such code, 502
// where the relay cannot be reached or refuses the agent, 503 while too many
// fetch at once. A body that breaks off does so visibly. Requests have limits
// of size and of time without progress; nothing of a pod's request but the
// attempt's name reaches the relay.
package gateway
