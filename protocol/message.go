package protocol

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Sync is the leader's request: what the cluster holds and has room for.
type Sync struct {
	// Nonce is fresh and unguessable; an answer to any but the outstanding
	// nonce is dropped.
	Nonce string `json:"nonce"`
	// Session is drawn at random each time a process becomes leader. The relay
	// gives each session a term of its own.
	Session string `json:"session"`
	// Term is the term of the session; 0 before the relay gave one. The
	// highest term the process ever had, when it is another session's.
	Term uint64 `json:"term,omitempty"`
	Info Info   `json:"info"`
	// Held are the attempts with a Kubernetes Job. A full sync lists all of
	// them, over as many pages as needed; any other only the unfinished ones.
	Held []Ref `json:"held,omitempty"`
	// Full marks the pages of a full sync; Last its last page. A sync that is
	// not full is its own last page.
	Full bool `json:"full,omitempty"`
	Last bool `json:"last,omitempty"`
	// Room is how many more attempts each compute may be granted.
	Room []Room `json:"room,omitempty"`
	// Problems are what keeps the agent from taking work, for people.
	Problems []string `json:"problems,omitempty"`
	// Keys are the IDs of the relay's keys that the cluster trusts; Trust is
	// the digest of all that it trusts.
	Keys  []string `json:"keys,omitempty"`
	Trust string   `json:"trust,omitempty"`
	// Nudge is an unguessable word: nudges are expected at
	// nudge.CLUSTER.NUDGE, so that no other cluster can send them.
	Nudge string `json:"nudge,omitempty"`
	// Incidents are the messages that were not believed since the last sync
	// that was answered.
	Incidents []Incident `json:"incidents,omitempty"`
	// Check is the newest self-check, where the relay does not have it yet.
	Check *Check `json:"check,omitempty"`
	// Found is likewise what the agent found last in its cluster.
	Found *Found `json:"found,omitempty"`
}

// Incident is a message that an agent refused to believe.
type Incident struct {
	Time    time.Time  `json:"time"`
	Kind    BreachKind `json:"kind"`
	Message string     `json:"message"`
	// Count is how many of the kind there were since the last report.
	Count int `json:"count"`
}

// Check is what an agent found when it checked its own surroundings.
type Check struct {
	Time    time.Time     `json:"time"`
	Results []CheckResult `json:"results"`
}

// CheckResult is one thing that was checked.
type CheckResult struct {
	Name string `json:"name"` // such as "proxy"
	OK   bool   `json:"ok"`
	// Skipped: not tried, since what it needs has failed.
	Skipped bool `json:"skipped,omitempty"`
	// Detail is what was found, Fix what to do about it where it is not OK.
	Detail string `json:"detail,omitempty"`
	Fix    string `json:"fix,omitempty"`
}

// Info is what an agent says of itself.
type Info struct {
	AgentVersion      string `json:"agent_version"`
	KubernetesVersion string `json:"kubernetes_version,omitempty"`
	Leader            string `json:"leader,omitempty"` // the leader's pod
	Nodes             int    `json:"nodes,omitempty"`
}

// Room is how many more attempts an instance type of a compute may be granted
// now. A compute without instance types has one without a name.
type Room struct {
	Compute      string `json:"compute"`
	InstanceType string `json:"instance_type,omitempty"`
	Free         int    `json:"free"`
}

// SyncReply is the relay's answer to a Sync. It is signed: see DecodeSigned.
type SyncReply struct {
	// Cluster is whom it is for, Nonce that of the Sync that it answers.
	Cluster string `json:"cluster"`
	Nonce   string `json:"nonce"`
	// ValidSeconds is how long after sending the Sync the agent may act on the
	// answer, at most; see StartDeadline.
	ValidSeconds int `json:"valid_seconds"`
	// Trust is what to trust from now on, where it differs from what the Sync
	// said; nil for no change.
	Trust *Trust `json:"trust,omitempty"`
	// Term is the session's term, of every Version that it writes.
	Term uint64 `json:"term"`
	// NeedFull: the relay has not folded a full sync of this cluster since it
	// started; it grants nothing before, and wants every end told again.
	NeedFull bool     `json:"need_full,omitempty"`
	Starts   []Start  `json:"starts,omitempty"`
	Cancels  []Cancel `json:"cancels,omitempty"`
	// Missing are attempts of this cluster, once observed and not ended, that
	// the sync did not hold: the agent looks once more and, where the Job is
	// gone, ends them.
	Missing []Missing `json:"missing,omitempty"`
	// Computes are all computes of the cluster, as they should be.
	Computes []Compute `json:"computes,omitempty"`
	// Extension is how the extension should be installed; nil for none.
	Extension *Extension `json:"extension,omitempty"`
	// More: work was left out of this answer; sync again at once.
	More bool `json:"more,omitempty"`
}

// Start grants one attempt to the cluster. A start that was granted before is
// the same start: its Job's name is a function of job and attempt.
type Start struct {
	Attempt int `json:"attempt"`
	Job     Job `json:"job"`
	// InstanceType is what it runs on: what the job asks for, or the compute's
	// default when the job was accepted. Empty where the compute has none.
	InstanceType string `json:"instance_type,omitempty"`
}

// Ref is the attempt that the start grants.
func (s *Start) Ref() Ref { return Ref{Job: s.Job.Name, Attempt: s.Attempt} }

// Cancel asks for the end of an attempt, whether or not its Job exists.
type Cancel struct {
	Ref
	// Compute is where the attempt was granted to; empty where the relay does
	// not know.
	Compute string `json:"compute,omitempty"`
	// Ended: the record has its end already; the Job is a leftover to delete,
	// of which nothing is to be reported.
	Ended  bool    `json:"ended,omitempty"`
	Reason *Reason `json:"reason,omitempty"`
}

// Missing is an attempt that the relay believes to live and did not see held.
type Missing struct {
	Ref
	Compute string `json:"compute,omitempty"` // as of a Cancel
	// Latest is the last observation, from which the end can be told: a Job
	// that was being stopped at its timeout has timed out.
	Latest *Event `json:"latest,omitempty"`
}

// EventBatch carries observations in the order of their versions.
type EventBatch struct {
	Events []Event `json:"events"`
}

// EventReply answers an EventBatch, one result per event, in order, after all
// of them are durable.
type EventReply struct {
	Results []EventResult `json:"results"`
}

// EventResult is what became of one event.
type EventResult struct {
	Ref
	// Outcome is Folded, also where the event was known already, or Unknown
	// for a job that the relay does not have or gave to another cluster.
	Outcome Outcome `json:"outcome"`
}

// Outcome of an event.
type Outcome string

const (
	Folded  Outcome = "folded"
	Unknown Outcome = "unknown"
)

// LogPosition is a place in the output of one rank: after Lines lines of those
// that carry exactly the timestamp Time. Zero is the beginning. The Kubernetes
// API can only resume by timestamp, and several lines may share one.
type LogPosition struct {
	Time  time.Time `json:"time,omitzero"`
	Lines uint32    `json:"lines,omitempty"`
}

// LogChunk is a run of output of one rank. The relay takes it only where From
// is the position it has reached, so that nothing is doubled and nothing lost
// unnoticed, and answers with the position reached. A chunk without data asks
// for the position only.
type LogChunk struct {
	Ref
	Rank int         `json:"rank"`
	From LogPosition `json:"from"`
	To   LogPosition `json:"to"`
	Data []byte      `json:"data,omitempty"`
	// Gap says that output between From and the data was lost, and why.
	Gap string `json:"gap,omitempty"`
	// EOF: the container has ended and nothing follows.
	EOF bool `json:"eof,omitempty"`
}

// LogReply answers a LogChunk.
type LogReply struct {
	// At is the position that the relay has reached.
	At LogPosition `json:"at"`
	// EOF: the relay has the end of this output.
	EOF bool `json:"eof,omitempty"`
	// Taken is false where the chunk did not start at the relay's position.
	Taken bool `json:"taken"`
	// Unknown: the relay does not have this attempt; ask again much later.
	Unknown bool `json:"unknown,omitempty"`
}

// Refusal answers a message that could not be used, or could not be now.
type Refusal struct {
	Message string `json:"message"`
	// Temporary: the same message may do later.
	Temporary bool `json:"temporary,omitempty"`
}

func (r *Refusal) Error() string { return "refused by the relay: " + r.Message }

// Validate says what is wrong with the message.
func (s *Sync) Validate() error {
	var errs []error
	if n := len(s.Nonce); n < 16 || n > 64 {
		errs = append(errs, fmt.Errorf("nonce: %d characters, 16 to 64 are needed", n))
	}
	if n := len(s.Session); n < 16 || n > 64 {
		errs = append(errs, fmt.Errorf("session: %d characters, 16 to 64 are needed", n))
	}
	if len(s.Held) > MaxHeld {
		errs = append(errs, fmt.Errorf("held: %d attempts in a page, at most %d are allowed", len(s.Held), MaxHeld))
	}
	for _, r := range s.Held {
		if err := r.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("held: %w", err))
			break
		}
	}
	if len(s.Room) > MaxRooms {
		errs = append(errs, fmt.Errorf("room: %d instance types, at most %d are allowed", len(s.Room), MaxRooms))
	}
	errs = append(errs, s.Info.validate())
	if len(s.Problems) > MaxProblems {
		errs = append(errs, fmt.Errorf("problems: %d, at most %d are allowed", len(s.Problems), MaxProblems))
	}
	for _, problem := range s.Problems[:min(len(s.Problems), MaxProblems)] {
		errs = append(errs, checkLength("problem", problem, MaxReason+4))
	}
	if len(s.Keys) > MaxRelayKeys {
		errs = append(errs, fmt.Errorf("keys: %d, at most %d are allowed", len(s.Keys), MaxRelayKeys))
	}
	for _, id := range s.Keys[:min(len(s.Keys), MaxRelayKeys)] {
		errs = append(errs, checkLength("key", id, 16))
	}
	errs = append(errs, checkLength("trust", s.Trust, 16))
	if s.Nudge != "" && !nudgeRE.MatchString(s.Nudge) {
		errs = append(errs, errors.New("nudge: not 16 to 64 letters and digits"))
	}
	if len(s.Incidents) > MaxProblems {
		errs = append(errs, fmt.Errorf("incidents: %d, at most %d are allowed", len(s.Incidents), MaxProblems))
	}
	for _, i := range s.Incidents[:min(len(s.Incidents), MaxProblems)] {
		errs = append(errs, checkLength("incident", i.Message, MaxReason+4), checkLength("incident's kind", string(i.Kind), MaxReasonCode))
	}
	return errors.Join(append(errs, s.Check.validate(), s.Found.validate())...)
}

var nudgeRE = regexp.MustCompile(`^[A-Za-z0-9]{16,64}$`)

func (c *Check) validate() error {
	if c == nil {
		return nil
	}
	if len(c.Results) > MaxChecks {
		return fmt.Errorf("check: %d results, at most %d are allowed", len(c.Results), MaxChecks)
	}
	var errs []error
	for _, r := range c.Results {
		errs = append(errs,
			checkLength("check's name", r.Name, MaxReasonCode),
			checkLength("check's detail", r.Detail, MaxCheckText+4),
			checkLength("check's fix", r.Fix, MaxCheckText+4))
	}
	return errors.Join(errs...)
}

func (i *Info) validate() error {
	return errors.Join(
		checkLength("agent's version", i.AgentVersion, MaxVersion),
		checkLength("version of Kubernetes", i.KubernetesVersion, MaxVersion),
		checkLength("leader", i.Leader, MaxNode))
}

// Validate says what is wrong with the message. Starts are judged one by one
// by the agent, so that a bad one fails its own record only.
func (s *SyncReply) Validate() error {
	if err := CheckLabel("cluster", s.Cluster); err != nil {
		return err
	}
	if s.Term == 0 {
		return errors.New("term: is 0")
	}
	if s.ValidSeconds < 1 || s.ValidSeconds > int(StartDeadline/time.Second) {
		return fmt.Errorf("valid_seconds: %d is not within 1 to %d", s.ValidSeconds, int(StartDeadline/time.Second))
	}
	if s.Trust != nil {
		if err := s.Trust.Validate(); err != nil {
			return err
		}
	}
	if len(s.Starts) > MaxStarts || len(s.Cancels) > MaxCancels || len(s.Missing) > MaxCancels || len(s.Computes) > MaxComputes {
		return errors.New("more starts, cancels, missing attempts or computes than an answer may carry")
	}
	return nil
}

// Validate says what is wrong with the message.
func (b *EventBatch) Validate() error {
	if len(b.Events) == 0 || len(b.Events) > MaxEvents {
		return fmt.Errorf("events: %d in a batch, 1 to %d are allowed", len(b.Events), MaxEvents)
	}
	for i := range b.Events {
		if err := b.Events[i].Validate(); err != nil {
			return fmt.Errorf("events[%d]: %w", i, err)
		}
	}
	return nil
}

// Validate says what is wrong with the message.
func (r *EventReply) Validate() error {
	if len(r.Results) > MaxEvents {
		return fmt.Errorf("results: %d, at most %d are allowed", len(r.Results), MaxEvents)
	}
	return nil
}

// Validate says what is wrong with the message.
func (c *LogChunk) Validate() error {
	if err := c.Ref.Validate(); err != nil {
		return err
	}
	if c.Rank < 0 || c.Rank >= MaxInstances {
		return fmt.Errorf("rank: %d is not within 0 to %d", c.Rank, MaxInstances-1)
	}
	if len(c.Data) > MaxLogData {
		return fmt.Errorf("data: %d bytes, at most %d are allowed", len(c.Data), MaxLogData)
	}
	if len(c.Gap) > MaxReason {
		return fmt.Errorf("gap: %d bytes, at most %d are allowed", len(c.Gap), MaxReason)
	}
	return nil
}

// Validate says what is wrong with the message.
func (r *LogReply) Validate() error { return nil }

// Validate says what is wrong with the message.
func (r *Refusal) Validate() error { return nil }
