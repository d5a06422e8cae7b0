package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The proxy's user, as the site's admin would have made one for the agent.
const proxyUser = "agent"

// squidConfig lets only the proxy's user through, and only to the relay.
const squidConfig = `
http_port %[2]s
pid_filename none
coredump_dir %[1]s
cache deny all
cache_log %[1]s/cache.log
access_log stdio:%[1]s/access.log
hosts_file %[1]s/hosts
dns_nameservers 127.0.0.1
shutdown_lifetime 0 seconds
auth_param basic program /usr/lib/squid/basic_ncsa_auth %[1]s/passwd
acl users proxy_auth REQUIRED
acl relay dstdomain %[3]s
acl relay_port port %[4]d
acl CONNECT method CONNECT
http_access deny !CONNECT
http_access deny !relay
http_access deny !relay_port
http_access allow users
http_access deny all
`

// squidFolder is where squid's files are: not in the checkout, which squid's
// own user may not be let into. The lab's folder has a link to it.
func squidFolder(opts Options) string {
	sum := sha256.Sum256([]byte(opts.Dir))
	return filepath.Join("/run", "trainrelay-squid-"+hex.EncodeToString(sum[:4]))
}

// writeSquid writes squid's files into dir. The relay's name resolves for squid
// alone: the cluster's DNS does not know it.
func writeSquid(ctx context.Context, dir, password string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	hash := exec.CommandContext(ctx, "openssl", "passwd", "-apr1", "-stdin")
	hash.Stdin = strings.NewReader(password)
	hashed, err := hash.Output()
	if err != nil {
		return fmt.Errorf("hash the proxy's password: %w", err)
	}
	for name, text := range map[string]string{
		"squid.conf": fmt.Sprintf(squidConfig, dir, fmt.Sprintf("%s:%d", siteProxyIP, proxyPort), relayHost, relayPort),
		"passwd":     proxyUser + ":" + string(hashed),
		"hosts":      cloudRelayIP + " " + relayHost + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	// squid drops its rights and must still write its logs.
	return exec.CommandContext(ctx, "chown", "-R", "proxy:proxy", dir).Run()
}
