package cli

import (
	"context"
	"time"

	"github.com/trainrelay/trainrelay/internal/client"
	v1 "github.com/trainrelay/trainrelay/internal/v1"
)

type auditCommand struct {
	Since      span   `help:"Only what is not older, such as 24h or 7d." placeholder:"TIME"`
	Actor      string `help:"Only what this token did, by its name; agent:CLUSTER is a cluster's agent." placeholder:"NAME"`
	Action     string `help:"Only this, such as token.create; token.* is all of tokens." placeholder:"ACTION"`
	MaxResults int    `short:"r" default:"50" help:"At most so many; 0 for all." placeholder:"N"`
	output
}

var auditColumns = []column{
	{"Time", "time"}, {"Actor", "actor"}, {"Role", "role"}, {"Action", "action"}, {"Target", "target"},
	{"Detail", "detail"}, {"From", "remote"},
}

func (c *auditCommand) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	q := client.AuditQuery{Actor: c.Actor, Action: c.Action, Limit: max(c.MaxResults, 0)}
	if c.Since > 0 {
		q.Since = time.Now().Add(-time.Duration(c.Since))
	}
	entries := []v1.AuditEntry{}
	for entry, err := range relay.Audit(ctx, q) {
		if err != nil {
			return err
		}
		entries = append(entries, entry)
	}
	return a.print(c.output, entries, formatTable, auditColumns)
}
