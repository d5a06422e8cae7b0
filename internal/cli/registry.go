package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/distribution/reference"
)

// dockerConfig is what counts of docker's config.json.
type dockerConfig struct {
	Auths       map[string]registryAuth `json:"auths"`
	CredsStore  string                  `json:"credsStore"`
	CredHelpers map[string]string       `json:"credHelpers"`
}

// registryAuth is the entry of one registry, as far as a kubelet reads it.
type registryAuth struct {
	Auth     string `json:"auth,omitempty"`
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
}

// registryConfig makes, of the config.json in a file, one with the entry of the
// image's registry and nothing else. No error quotes what is in the file.
func registryConfig(path, image string) ([]byte, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil, usage{fmt.Errorf("--registry-config: the job's image %q names no registry: %w", image, err), ""}
	}
	config, err := readDockerConfig(path)
	if err != nil {
		return nil, usage{fmt.Errorf("--registry-config %s: %w", path, err), "it is docker's config.json, with auths"}
	}
	registry := reference.Domain(named)
	for _, name := range sortedKeys(config.Auths) {
		auth := config.Auths[name]
		if registryHost(name) != registry || auth == (registryAuth{}) {
			continue
		}
		return json.Marshal(registryLogin{Auths: map[string]registryAuth{name: auth}})
	}
	const way = "log in with `docker --config NEWFOLDER login REGISTRY`, where nothing keeps passwords elsewhere, and give NEWFOLDER/config.json"
	helper := config.CredsStore
	for name, of := range config.CredHelpers {
		if registryHost(name) == registry {
			helper = of
		}
	}
	if helper != "" {
		return nil, usage{fmt.Errorf("--registry-config %s: the password for %s is not in the file but with docker-credential-%s, which is not asked", path, registry, oneLine(helper)), way}
	}
	return nil, usage{fmt.Errorf("--registry-config %s: it has no password for %s, the registry of %s", path, registry, image), way}
}

// registryLogin is what is sealed of it.
type registryLogin struct {
	Auths map[string]registryAuth `json:"auths"`
}

func readDockerConfig(path string) (config dockerConfig, err error) {
	const most = 1 << 20
	f, err := os.Open(path)
	if err != nil {
		return config, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return config, err
	case len(text) > most:
		return config, fmt.Errorf("it has more than %d bytes", most)
	case json.Unmarshal(text, &config) != nil: // whose error could quote a password
		return config, errors.New("it is not JSON of the form {\"auths\": {REGISTRY: {\"auth\": …}}}")
	}
	return config, nil
}

// registryHost is the registry that an entry of config.json is for, in the
// words of image references.
func registryHost(key string) string {
	_, rest, hasScheme := strings.Cut(key, "://")
	if !hasScheme {
		rest = key
	}
	host, _, _ := strings.Cut(rest, "/")
	if host == "index.docker.io" {
		return "docker.io"
	}
	return host
}
