package main

import (
	"fmt"
	"net/url"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

// newEtcdCommand returns etcd as a single member. Without --fsync it loses what
// it holds in a power cut and nothing in a kill, and is much faster for it.
func newEtcdCommand() *cobra.Command {
	var dir, client, peer string
	var fsync bool
	command := &cobra.Command{
		Use:          "etcd",
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config := embed.NewConfig()
			config.Dir = dir
			config.UnsafeNoFsync = !fsync
			config.QuotaBackendBytes = 8 << 30
			config.LogLevel = "warn"
			for text, urls := range map[string][]*[]url.URL{
				client: {&config.ListenClientUrls, &config.AdvertiseClientUrls},
				peer:   {&config.ListenPeerUrls, &config.AdvertisePeerUrls},
			} {
				parsed, err := url.Parse(text)
				if err != nil {
					return err
				}
				for _, u := range urls {
					*u = []url.URL{*parsed}
				}
			}
			config.InitialCluster = config.InitialClusterFromName(config.Name)

			server, err := embed.StartEtcd(config)
			if err != nil {
				return fmt.Errorf("start etcd in %s: %w", dir, err)
			}
			defer server.Close()
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			select {
			case <-ctx.Done():
				return nil
			case err := <-server.Err():
				return err
			}
		},
	}
	flags := command.Flags()
	flags.StringVar(&dir, "data-dir", "", "folder for the data")
	flags.StringVar(&client, "client-url", "http://127.0.0.1:2379", "where clients are served")
	flags.StringVar(&peer, "peer-url", "http://127.0.0.1:2380", "where peers would be served")
	flags.BoolVar(&fsync, "fsync", false, "make every write survive a power cut")
	return command
}
