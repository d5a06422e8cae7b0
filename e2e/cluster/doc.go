// Package cluster runs a real Kubernetes cluster on one Linux machine, from
// binaries built here: no container engine, no registry, no cloud.
//
// With Options.Nodes 0 it is an API server with its controllers on 127.0.0.1,
// needs no root, changes nothing on the machine, and several may run at once.
// With nodes it is a site of its own on a bridge:
//
//	this machine   10.88.0.1      etcd, API server, controllers, scheduler, CoreDNS
//	node N         10.88.0.1N     containerd, kubelet, kube-proxy, in namespaces of its own
//	pods of node N 10.244.N.0/24  services 10.96.0.0/16, DNS 10.96.0.10
//
// There is no NAT and the machine forwards nothing: what is on the bridge is
// all that a pod can reach.
//
// Every component is a process of its own and can be killed, paused and started
// again. Start returns when the API server is ready, nodes are Ready and DNS
// answers, or takes back what it did and says what went wrong; logs stay in
// Dir/log. A cluster dies with the process that started it unless it was told
// to Detach. Down, or the next Start in the same folder, removes whatever a
// killed owner left.
package cluster
