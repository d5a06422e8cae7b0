package broker

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// replicated is a JetStream whose streams and buckets are kept by several
// servers, whoever makes them.
type replicated struct {
	jetstream.JetStream
	replicas int
}

// stream is the configuration, replicated. Servers write replicated streams
// through in one way only.
func (r replicated) stream(cfg jetstream.StreamConfig) jetstream.StreamConfig {
	cfg.Replicas = r.replicas
	if r.replicas > 1 {
		cfg.PersistMode = jetstream.DefaultPersistMode
	}
	return cfg
}

func (r replicated) CreateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	return r.JetStream.CreateStream(ctx, r.stream(cfg))
}

func (r replicated) CreateOrUpdateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	return r.JetStream.CreateOrUpdateStream(ctx, r.stream(cfg))
}

func (r replicated) CreateKeyValue(ctx context.Context, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	cfg.Replicas = r.replicas
	return r.JetStream.CreateKeyValue(ctx, cfg)
}

func (r replicated) CreateOrUpdateKeyValue(ctx context.Context, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	cfg.Replicas = r.replicas
	return r.JetStream.CreateOrUpdateKeyValue(ctx, cfg)
}
