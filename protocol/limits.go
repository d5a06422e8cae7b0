package protocol

import "time"

// Limits of what crosses the firewall. Bytes unless said otherwise.
const (
	// MaxMessage bounds one encoded message; the broker's max_payload.
	MaxMessage = 256 << 10
	// MaxJobSpec bounds the JSON of one Job, so that a sync's answer can carry
	// several and a record fits the broker.
	MaxJobSpec = 96 << 10
	// MaxLogData bounds the text of one LogChunk (base64 in JSON adds a third).
	MaxLogData = 64 << 10
	// MaxComputeSettings bounds the JSON of all computes of a cluster: each
	// answer to a sync carries them, with at least one start.
	MaxComputeSettings = 64 << 10
	// MaxFound bounds the JSON of what an agent found, beside all that it holds.
	MaxFound = 64 << 10
	// MaxReason bounds a reason's message; longer ones are cut.
	MaxReason = 2 << 10

	MaxNode         = 253 // bytes of a node's, a pod's name
	MaxVersion      = 128 // bytes of a version
	MaxReasonCode   = 64  // bytes of a reason's code
	MaxProblems     = 20  // problems in a sync
	MaxName         = 254 // characters of a job's name
	MaxLabel        = 63  // characters of a cluster's, compute's or namespace's name
	MaxInstances    = 1000
	MaxEnv          = 500     // environment variables of a job
	MaxInputs       = 100     // inputs of a job
	MaxShm          = 1 << 42 // bytes of a job's /dev/shm
	MaxTags         = 50      // tags of a job, and likewise properties
	MaxHeld         = 1000    // attempts in one page of a sync
	MaxStarts       = 50      // starts in one answer
	MaxCancels      = 500     // cancels, and likewise missing attempts, in one answer
	MaxEvents       = 50      // events in one batch
	MaxComputes     = 200     // computes of one cluster
	MaxRooms        = 400     // instance types of all computes of one cluster
	MaxAttempts     = 10      // attempts of one job
	MaxSnapshotSize = 2 << 30
	MaxRelayKeys    = 4        // signing keys that a cluster trusts at a time
	MaxCA           = 16 << 10 // bytes of the authority of a relay's certificate, PEM
	MaxSealed       = 16 << 10 // bytes of a sealed value
	MaxSecrets      = 50       // sealed variables of a job
	MaxChecks       = 40       // results of a self-check
	MaxCheckText    = 512      // bytes of a result's detail, and of its fix
	MaxQuantity     = 32       // bytes of a quantity, such as 16Gi
	MaxResources    = 20       // resources of an instance type
	MaxInventory    = 50       // resources of a cluster, and likewise its own instance types
	MaxComponents   = 20       // components of an extension
	MaxSelectors    = 20       // labels in a node selector, and likewise tolerations
)

// Times of the protocol.
const (
	// SyncInterval is how often an agent syncs when nothing makes it sooner.
	SyncInterval = 30 * time.Second
	// PresenceTimeout is how long after its last sync a cluster counts as
	// connected: three missed syncs.
	PresenceTimeout = 3 * SyncInterval
	// StartDeadline is how long after sending a sync the agent may create the
	// Jobs that its answer grants. After it the grant is void and the next
	// sync grants it again.
	StartDeadline = 20 * time.Second
	// FinishedJobTTL is how long a finished Kubernetes Job stays, at least, so
	// that a late create of the same attempt meets its name.
	FinishedJobTTL = time.Hour
)
