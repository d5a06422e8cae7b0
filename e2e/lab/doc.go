// Package lab is a site as trainrelay is made for: a Kubernetes cluster that
// nobody can reach from outside and whose only way out is a proxy, and a relay
// on the far side of it. The demo and the end-to-end tests use the same lab.
//
//	host: trainrelay CLI, kubectl
//	  │ 10.99.0.1                                  │ 10.88.0.1  API server, DNS
//	──┴─────────── cloud 10.99.0.0/24 ──┐   ┌──────┴──── site 10.88.0.0/24 ──┐
//	  │ 10.99.0.2          10.99.0.3    │   │   10.88.0.3                    │ 10.88.0.11
//	relay                      └──── squid ─┘                             node1: pods 10.244.1.0/24
//
// The relay and squid live in network namespaces of their own. The node has no
// route to the cloud's network, and its firewall counts and rejects what tries
// to leave the pod network for anywhere but the proxy.
//
// Up makes what is missing, says what it does, and may be called again on a
// lab that stands or that a crash left behind. Down leaves nothing.
package lab
