// Package images assembles container images without a registry and without a
// container engine: ours from static binaries, one with Python and scikit-learn
// from Debian packages. Each function writes a docker archive, which `ctr images
// import` and cluster.Import load.
//
// The same inputs give the same bytes, and so the same digests. A file appears
// under its name only when it is whole.
package images
