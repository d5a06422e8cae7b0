package cli

import (
	"context"
	"strings"
)

type keyCommands struct {
	List   keyList   `cmd:"" help:"List the keys that the relay signs its answers to agents with, and which clusters need which."`
	Rotate keyRotate `cmd:"" help:"Make a new signing key; clusters go over to it by themselves."`
	Retire keyRetire `cmd:"" help:"End an old signing key."`
}

var keyColumns = []column{
	{"ID", "id"}, {"Created", "creation_context.created_at"}, {"CreatedBy", "creation_context.created_by"}, {"Current", "current"},
	{"TrustedBy", "join(' ', trusted_by || `[]`)"}, {"NeededBy", "join(' ', needed_by || `[]`)"},
}

type keyList struct{ output }

func (k *keyList) Run(ctx context.Context, a *app) error {
	if err := k.check(); err != nil {
		return err
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	keys, err := relay.Keys(ctx)
	if err != nil {
		return err
	}
	return a.print(k.output, keys, formatTable, keyColumns)
}

type keyRotate struct{ output }

func (k *keyRotate) Run(ctx context.Context, a *app) error {
	if err := k.check(); err != nil {
		return err
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	key, err := relay.RotateKey(ctx)
	if err != nil {
		return err
	}
	a.notef("key %s was made. Clusters learn of it with their next sync, and nothing stops meanwhile.", key.ID)
	a.notef("Once `trainrelay key list` shows that no cluster needs an old one: trainrelay key retire --id ID")
	return a.print(k.output, key, formatJSON, keyColumns)
}

type keyRetire struct {
	ID    string `required:"" help:"Which one, as key list shows it." placeholder:"ID"`
	Force bool   `help:"Also where clusters trust no newer one, which then have to join again."`
	output
}

func (k *keyRetire) Run(ctx context.Context, a *app) error {
	if err := k.check(); err != nil {
		return err
	}
	relay, err := a.connect()
	if err != nil {
		return err
	}
	retired, err := relay.RetireKey(ctx, k.ID, k.Force)
	if err != nil {
		return hinted{err, "`trainrelay key list` shows the keys, and which clusters need them"}
	}
	a.notef("key %s was retired: nothing is signed with it any more, and clusters unlearn it with their next sync.", retired.ID)
	if len(retired.MustJoinAgain) > 0 {
		a.notef("These trust no key of the relay any more, and start nothing until they have joined again, each with a new token of `trainrelay cluster connect`: %s", strings.Join(retired.MustJoinAgain, ", "))
	}
	return a.print(k.output, retired, formatJSON, nil)
}
