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

// AuditList is a page of entries, newest first.
type AuditList struct {
	Value    []AuditEntry `json:"value"`
	NextLink string       `json:"next_link,omitempty" doc:"path and query of the next page; a page may be short, even empty, and have one"`
}

// Token is a user's token, without its secret.
type Token struct {
	Name            string          `json:"name"`
	Role            Role            `json:"role"`
	Expires         time.Time       `json:"expires"`
	Status          string          `json:"status" doc:"Valid or Expired"`
	CreationContext CreationContext `json:"creation_context"`
}

const (
	TokenValid   = "Valid"
	TokenExpired = "Expired"
)

// TokenList holds all tokens, by name.
type TokenList struct {
	Value []Token `json:"value"`
}

// TokenSettings is the body of making a token.
type TokenSettings struct {
	Name      string `json:"name"`
	Role      Role   `json:"role" enum:"admin,contributor,reader"`
	ExpiresIn int64  `json:"expires_in,omitempty" doc:"seconds, from an hour to ten years; 0 for 90 days"`
}

// NewToken is the answer to making a token: the only sight of its secret.
type NewToken struct {
	Token
	Secret string `json:"token" doc:"what is sent as Authorization: Bearer …; shown once, never stored by the relay"`
}
