package protocol

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var noon = time.Date(2026, 1, 2, 12, 0, 0, 123456789, time.UTC)

// signingKey is the same at every run.
func signingKey() *SigningKey {
	key, err := SigningKeyFromSeed([]byte(strings.Repeat("k", 32)))
	if err != nil {
		panic(err)
	}
	return key
}

func sealed(box string) Sealed {
	return Sealed{To: "X" + strings.Repeat("A", 55), From: "X" + strings.Repeat("B", 55), Box: []byte(box)}
}

func ptr[T any](v T) *T { return &v }

func iris() Job {
	return Job{
		Name: "iris-1", DisplayName: "Iris", Experiment: "demo", Tags: map[string]string{"team": "a"},
		Command: "python3 train.py --rate 0.1", Code: "sha256:" + strings.Repeat("ab", 32), Image: "sklearn:1",
		Env: map[string]string{"SEED": "7"}, SecretEnv: map[string]Sealed{"TOKEN": sealed("token")}, PullSecret: ptr(sealed("pull")), Inputs: map[string]string{"rate": "0.1"},
		Compute: "onprem", Instances: 1, TimeoutSeconds: 3600, Priority: 1,
	}
}

// message is what the golden test needs of a Message.
type message struct {
	name   string
	value  any
	encode func() ([]byte, error)
	decode func([]byte) (any, error)
}

func of[M Message](name string, m, empty M) message {
	return message{name, m,
		func() ([]byte, error) { return Encode(m) },
		func(data []byte) (any, error) {
			err := Decode(data, empty)
			return empty, err
		}}
}

func settings() ComputeSettings {
	return ComputeSettings{
		DefaultInstanceType: "gpu",
		InstanceTypes: map[string]InstanceType{"gpu": {NodeSelector: map[string]string{"sku": "v100"}, Resources: Amounts{
			Requests: map[string]string{"cpu": "2"}, Limits: map[string]string{"nvidia.com/gpu": "1"}}}},
		RunAsUser: ptr(int64(1000)), ImagePullSecrets: []string{"mirror"}, PriorityClass: "training",
		Tolerations: []Toleration{{Key: "sku", Operator: "Equal", Value: "gpu", Effect: "NoExecute", TolerationSeconds: ptr(int64(300))}},
	}
}

func found() *Found {
	return &Found{
		Time: noon,
		Computes: []ComputeFound{{Name: "onprem", Revision: 7, Problems: []string{"p"}, Warnings: []string{"w"},
			Types: []TypeFound{{Name: "gpu", Nodes: 3, Largest: 6, Fits: ptr(0)}}}},
		Extension: &ExtensionFound{Revision: 8, State: Pending, Reason: "r", Components: []Component{{Name: "agent", Ready: true, Detail: "d"}}},
		Inventory: Inventory{Nodes: 3, Ready: 2, Allocatable: map[string]string{"cpu": "8"}, Free: map[string]string{"cpu": "0"},
			InstanceTypes: settings().InstanceTypes, Proxy: "http://proxy:3128", RoundTrip: 1500000},
	}
}

// messages has every field of every message set.
func messages() []message {
	exit := 3
	ref := Ref{Job: "iris-1", Attempt: 1}
	event := Event{Ref: ref, Version: Version{Term: 2, Seq: 9}, State: Failed, Reason: NewReason(ExitCode, "exit code %d", exit), Time: noon, ExitCode: &exit, Node: "node1", Retry: true}
	running := Event{Ref: ref, Version: Version{Term: 2, Seq: 8}, State: Running, Time: noon}
	return []message{
		of("sync", &Sync{Nonce: "n-0123456789abcdef", Session: "s-0123456789abcdef", Term: 2,
			Info: Info{AgentVersion: "0.1.0", KubernetesVersion: "v1.37.2", Leader: "agent-x", Nodes: 3},
			Held: []Ref{ref}, Full: true, Last: true, Room: []Room{{Compute: "onprem", Free: 4}}, Problems: []string{"the API server does not answer"},
			Keys: []string{signingKey().Public().ID()}, Trust: "0123456789abcdef", Nudge: "w0123456789abcdef",
			Incidents: []Incident{{Time: noon, Kind: Forged, Message: "its signature is wrong", Count: 2}},
			Check:     &Check{Time: noon, Results: []CheckResult{{Name: "proxy", OK: false, Detail: "407", Fix: "give the password"}}}}, new(Sync)),
		of("sync-reply", &SyncReply{Cluster: "onprem-1", Nonce: "n-0123456789abcdef", ValidSeconds: 20, Term: 2, NeedFull: true,
			Trust:  &Trust{Keys: []RelayKey{signingKey().Public()}, CA: "-----BEGIN CERTIFICATE-----"},
			Starts: []Start{{Attempt: 1, Job: iris()}}, Cancels: []Cancel{{Ref: ref, Compute: "onprem", Ended: true, Reason: NewReason(UserCanceled, "asked")}},
			Missing: []Missing{{Ref: ref, Compute: "onprem", Latest: &running}}, Computes: []Compute{{Name: "onprem", Namespace: "train"}}, More: true}, new(SyncReply)),
		of("sync-found", &Sync{Nonce: "n-0123456789abcdef", Session: "s-0123456789abcdef",
			Room: []Room{{Compute: "onprem", InstanceType: "gpu", Free: 4}}, Found: found()}, new(Sync)),
		of("sync-reply-computes", &SyncReply{Cluster: "onprem-1", Nonce: "n-0123456789abcdef", ValidSeconds: 20, Term: 2,
			Starts:    []Start{{Attempt: 1, InstanceType: "gpu", Job: Job{Name: "j", Command: "true", Image: "a", Compute: "onprem", InstanceType: "gpu", Instances: 1}}},
			Computes:  []Compute{{Name: "onprem", Namespace: "train", Revision: 7, ComputeSettings: settings()}},
			Extension: &Extension{Name: "amlarc-compute", Revision: 8, Settings: map[string]string{"enableTraining": "True"}}}, new(SyncReply)),
		of("sync-reply-shm", &SyncReply{Cluster: "onprem-1", Nonce: "n-0123456789abcdef", ValidSeconds: 20, Term: 2,
			Starts: []Start{{Attempt: 1, Job: Job{Name: "j", Command: "true", Image: "a", Compute: "onprem", Instances: 1, ShmBytes: 1 << 30, Priority: -1,
				Properties: map[string]string{"owner": "a"}}}}}, new(SyncReply)),
		of("event", &EventBatch{Events: []Event{event}}, new(EventBatch)),
		of("event-reply", &EventReply{Results: []EventResult{{Ref: ref, Outcome: Folded}}}, new(EventReply)),
		of("log", &LogChunk{Ref: ref, Rank: 1, From: LogPosition{}, To: LogPosition{Time: noon, Lines: 2}, Data: []byte("a\nb\n"), Gap: "rotated", EOF: true}, new(LogChunk)),
		of("log-reply", &LogReply{At: LogPosition{Time: noon, Lines: 2}, EOF: true, Taken: true, Unknown: true}, new(LogReply)),
		of("enrolment", &Enrolment{Nonce: "n-0123456789abcdef", Cluster: "onprem-1", Trust: Trust{Keys: []RelayKey{signingKey().Public()}}}, new(Enrolment)),
		of("refusal", &Refusal{Message: "no such verb", Temporary: true}, new(Refusal)),
	}
}

// TestGolden: the wire form of version 1 does not change by accident, and
// reads back as it was.
func TestGolden(t *testing.T) {
	for _, m := range messages() {
		t.Run(m.name, func(t *testing.T) {
			data, err := m.encode()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "v1", m.name+".json")
			if *update {
				if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimSpace(string(golden)), string(data)); diff != "" {
				t.Errorf("wire form changed (-golden +now):\n%s", diff)
			}
			got, err := m.decode(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m.value, got); diff != "" {
				t.Errorf("read back differently (-sent +read):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	wrap := func(body string) string { return `{"v":1,"kind":"event","body":` + body + `}` }
	for _, tc := range []struct{ name, data, want string }{
		{"empty", "", "not a JSON object"},
		{"not UTF-8", "{\"v\":1,\"kind\":\"\xff\"}", "not UTF-8"},
		{"cut", `{"v":1,"kind":"event","bo`, "unexpected end"},
		{"trailing", wrap(`{"events":[]}`) + "{}", "after top-level value"},
		{"another version", `{"v":2,"kind":"event","body":{}}`, "protocol version 2"},
		{"another kind", `{"v":1,"kind":"log","body":{}}`, `kind "log"`},
		{"no body", `{"v":1,"kind":"event"}`, "not a JSON object"},
		{"body null", wrap("null"), "not a JSON object"},
		{"empty batch", wrap(`{"events":[]}`), "0 in a batch"},
		{"unknown state", wrap(`{"events":[{"job":"a","attempt":1,"term":1,"seq":1,"state":"Exploded","time":"2026-01-02T12:00:00Z"}]}`), `events[0]: state "Exploded"`},
		{"relay's state", wrap(`{"events":[{"job":"a","attempt":1,"term":1,"seq":1,"state":"CancelRequested","time":"2026-01-02T12:00:00Z"}]}`), `state "CancelRequested"`},
		{"no term", wrap(`{"events":[{"job":"a","attempt":1,"seq":1,"state":"Running","time":"2026-01-02T12:00:00Z"}]}`), "term: is 0"},
		{"hostile name", wrap(`{"events":[{"job":"../a","attempt":1,"term":1,"seq":1,"state":"Running","time":"2026-01-02T12:00:00Z"}]}`), "is not a job's name"},
		{"attempt 0", wrap(`{"events":[{"job":"a","term":1,"seq":1,"state":"Running","time":"2026-01-02T12:00:00Z"}]}`), "attempt 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Decode([]byte(tc.data), new(EventBatch))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
	if err := Decode(make([]byte, MaxMessage+1), new(Sync)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("oversized: %v", err)
	}
}

// TestRefusalIsCut: nobody signs a refusal, so a hostile broker says no more by
// one than fits a log.
func TestRefusalIsCut(t *testing.T) {
	data, err := Encode(&Refusal{Message: strings.Repeat("x", 2*MaxReason)})
	if err != nil {
		t.Fatal(err)
	}
	var refusal *Refusal
	if err := Decode(data, new(EventReply)); !errors.As(err, &refusal) || len(refusal.Message) > MaxReason+4 {
		t.Errorf("%d bytes, %v", len(refusal.Message), err != nil)
	}
}

func TestRefusalIsAnError(t *testing.T) {
	data, err := Encode(&Refusal{Message: "superseded", Temporary: true})
	if err != nil {
		t.Fatal(err)
	}
	var refusal *Refusal
	if err := Decode(data, new(SyncReply)); !errors.As(err, &refusal) || refusal.Message != "superseded" || !refusal.Temporary {
		t.Errorf("got %v", err)
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	data := `{"v":1,"kind":"log-reply","since":3,"body":{"at":{},"taken":true,"colour":"blue"}}`
	var reply LogReply
	if err := Decode([]byte(data), &reply); err != nil || !reply.Taken {
		t.Errorf("%+v, %v", reply, err)
	}
}

// FuzzDecode: whatever arrives, decoding ends with a message that is valid or
// an error, and what is valid can be sent again.
func FuzzDecode(f *testing.F) {
	for _, m := range messages() {
		data, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		again(t, data, new(Sync))
		again(t, data, new(SyncReply))
		again(t, data, new(EventBatch))
		again(t, data, new(EventReply))
		again(t, data, new(LogChunk))
		again(t, data, new(LogReply))
		again(t, data, new(Refusal))
		again(t, data, new(Enrolment))
	})
}

func again[M Message](t *testing.T, data []byte, m M) {
	if Decode(data, m) != nil {
		return
	}
	if _, err := Encode(m); err != nil && !errors.Is(err, ErrTooLarge) {
		// json.Marshal refuses years beyond 9999 that Unmarshal never yields.
		t.Fatalf("decoded and not encodable: %v", err)
	}
}

func TestJobJSONIsStable(t *testing.T) {
	job := iris()
	data, err := json.Marshal(&job)
	if err != nil {
		t.Fatal(err)
	}
	var read Job
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	if job.Digest() != read.Digest() {
		t.Error("a job read back has another digest")
	}
	read.Command += " "
	if job.Digest() == read.Digest() {
		t.Error("another command, the same digest")
	}
}
