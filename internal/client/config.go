package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Config says where the relay is and how to be let in.
type Config struct {
	URL   string `json:"url"`
	Token string `json:"token"`
	// CA is the authority of the relay's certificate, PEM; empty for those
	// that the machine trusts.
	CA string `json:"ca,omitempty"`
}

// LoadConfig reads a configuration file.
func LoadConfig(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the client's configuration: %w", err)
	}
	c, err := parseConfig(data)
	if err != nil {
		return Config{}, fmt.Errorf("read the client's configuration %s: %w", path, err)
	}
	return c, nil
}

func parseConfig(data []byte) (c Config, _ error) {
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, err
	}
	if c.URL == "" || c.Token == "" {
		return Config{}, errors.New("url or token is missing")
	}
	return c, nil
}

// Save writes the configuration for its owner only, whole or not at all.
func (c Config) Save(path string) (err error) {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("write the client's configuration: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".client-")
	if err != nil {
		return fmt.Errorf("write the client's configuration: %w", err)
	}
	_, err = tmp.Write(append(data, '\n')) // the file is 0600 from its creation
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the client's configuration %s: %w", path, err), os.Remove(tmp.Name()))
	}
	return nil
}
