package v1

import "time"

// Role is what a token may do; each includes those below it.
type Role string

const (
	Admin       Role = "admin"       // everything
	Contributor Role = "contributor" // also submit and cancel jobs, and send their code
	Reader      Role = "reader"      // see jobs, output, computes and clusters
)

// Roles are all of them, the highest first.
func Roles() []Role { return []Role{Admin, Contributor, Reader} }

// Includes reports whether r may do what takes other.
func (r Role) Includes(other Role) bool {
	rank := map[Role]int{Reader: 1, Contributor: 2, Admin: 3}
	return rank[other] > 0 && rank[r] >= rank[other]
}

// Identity is who a token is.
type Identity struct {
	Name    string     `json:"name"`
	Role    Role       `json:"role"`
	Expires *time.Time `json:"expires,omitempty" doc:"never where it is missing"`
}

// AuditEntry is one change, or what was refused.
type AuditEntry struct {
	Time   time.Time `json:"time"`
	Actor  string    `json:"actor" doc:"a token's name, or agent:CLUSTER; empty for a stranger"`
	Role   string    `json:"role,omitempty" doc:"of the token"`
	Action string    `json:"action" doc:"such as token.create"`
	Target string    `json:"target,omitempty"`
	Detail string    `json:"detail,omitempty"`
	Remote string    `json:"remote,omitempty" doc:"the address that it came from"`
}
