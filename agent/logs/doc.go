// Package logs ships the live output of training pods to the relay, line by
// line as it appears, for people who watch. (The complete output of a job is
// another matter; live output is bounded at both ends.)
//
// # Positions
//
// The Kubernetes API cannot resume a log at a byte, only at a time cut to whole
// seconds, and several lines may share a timestamp. A place in a container's
// output is therefore a [protocol.LogPosition]: behind so many pieces of those
// that carry a timestamp. The relay keeps the position it has reached and takes
// a chunk only there; an agent that starts anew asks for it, reads from a
// little before, and skips what is not behind it. No state is kept here.
//
// Two things make a position mean the same at every reading. A line longer
// than 16 KiB counts as several pieces, cut at fixed lengths. And lines of
// stdout and stderr may be out of order by their timestamps: a piece counts
// under the latest timestamp that it or any piece before it carries.
//
// # What holds
//
// Nothing is doubled, in whatever order agents are killed and connections are
// cut. What was lost is marked where the reader sees the gap: the log was
// rotated while nobody read it, or the pod was gone before all was read. Lost
// without a mark is only what was rotated away before the first reading, what a
// rotation takes of lines that count under one timestamp, and what the kubelet
// itself skips when a log is rotated twice under a reader that is held up.
//
// A line is shipped once it is complete. An unfinished last line, and the end
// of the output, are shipped when the container has ended and two readings
// after that agree: the API server ends a response in good order also where
// its own connection to the node broke.
//
// A relay that is slow or away holds up the reading; memory per pod is bounded
// by two chunks. It is tried again for ever, with jittered delays.
package logs
