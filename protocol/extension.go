package protocol

import (
	"errors"
	"fmt"
)

// Extension is how the relay wants the cluster's extension to be installed. The
// agent only looks whether it is: what installs it are chart values, which a
// cluster's admin applies.
type Extension struct {
	Name string `json:"name"`
	// Revision is another one after each change.
	Revision uint64 `json:"revision"`
	// Settings are all of them by their keys, defaults included. Values of
	// switches are True and False.
	Settings map[string]string `json:"settings"`
}

// InstallState is how far an extension is installed.
type InstallState string

const (
	Pending   InstallState = "Pending"
	Installed InstallState = "Installed"
	// InstallFailed: a component cannot become ready by itself.
	InstallFailed InstallState = "Failed"
)

// ExtensionFound is what was found of an extension.
type ExtensionFound struct {
	// Revision is that of the extension that was looked for.
	Revision uint64       `json:"revision"`
	State    InstallState `json:"state"`
	// Reason says what the state waits for or failed for; empty once Installed.
	Reason     string      `json:"reason,omitempty"`
	Components []Component `json:"components,omitempty"`
}

// Component is a part of an extension.
type Component struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	// Detail is why it is not ready, or how it comes to be.
	Detail string `json:"detail,omitempty"`
}

func (e *ExtensionFound) validate() error {
	if e == nil {
		return nil
	}
	errs := []error{checkLength("extension's reason", e.Reason, MaxReason+4)}
	switch e.State {
	case Pending, Installed, InstallFailed:
	default:
		errs = append(errs, fmt.Errorf("extension's state %q is none of Pending, Installed, Failed", Cut(string(e.State), 80)))
	}
	if n := len(e.Components); n > MaxComponents {
		errs = append(errs, fmt.Errorf("extension: %d components, at most %d are allowed", n, MaxComponents))
	}
	for _, c := range e.Components[:min(len(e.Components), MaxComponents)] {
		errs = append(errs, checkLength("component's name", c.Name, MaxNode), checkLength("component's detail", c.Detail, MaxCheckText+4))
	}
	return errors.Join(errs...)
}
