package protocol

import (
	"errors"
	"fmt"
	"time"
)

// Found is what an agent finds in its cluster of what the relay wants there.
type Found struct {
	Time     time.Time      `json:"time"`
	Computes []ComputeFound `json:"computes,omitempty"`
	// Extension is nil where the relay wants none.
	Extension *ExtensionFound `json:"extension,omitempty"`
	Inventory Inventory       `json:"inventory"`
}

// ComputeFound is what was found of a compute.
type ComputeFound struct {
	Name string `json:"name"`
	// Revision is that of the compute that was looked at.
	Revision uint64 `json:"revision"`
	// Problems keep jobs from running; Warnings may.
	Problems []string    `json:"problems,omitempty"`
	Warnings []string    `json:"warnings,omitempty"`
	Types    []TypeFound `json:"types,omitempty"`
}

// TypeFound is what was found of an instance type of a compute.
type TypeFound struct {
	Name string `json:"name,omitempty"`
	// Nodes is how many nodes it may run on; Largest how many instances would
	// fit them if they were empty, and Fits how many would fit now, which is
	// nil where the agent does not see what runs on them.
	Nodes   int  `json:"nodes"`
	Largest int  `json:"largest"`
	Fits    *int `json:"fits,omitempty"`
}

// Inventory is what a cluster has.
type Inventory struct {
	Nodes int `json:"nodes"`
	Ready int `json:"ready"`
	// Allocatable and Free are quantities of all ready nodes by the resource's
	// name. Free is nil where the agent does not see what runs on them.
	Allocatable map[string]string `json:"allocatable,omitempty"`
	Free        map[string]string `json:"free,omitempty"`
	// InstanceTypes are the cluster's own, of amlarc.azureml.com, which all of
	// its computes have too.
	InstanceTypes map[string]InstanceType `json:"instance_types,omitempty"`
	// Proxy is the way to the relay: the proxy without its password, or empty
	// for a direct one. RoundTrip is how long the last sync took.
	Proxy     string        `json:"proxy,omitempty"`
	RoundTrip time.Duration `json:"round_trip_ns,omitempty"`
}

func (f *Found) validate() error {
	if f == nil {
		return nil
	}
	var errs []error
	if n := len(f.Computes); n > MaxComputes {
		errs = append(errs, fmt.Errorf("found: %d computes, at most %d are allowed", n, MaxComputes))
	}
	types := 0
	for _, c := range f.Computes[:min(len(f.Computes), MaxComputes)] {
		types += len(c.Types)
		errs = append(errs, checkLength("compute's name", c.Name, MaxLabel), checkTexts("compute's problem", c.Problems), checkTexts("compute's warning", c.Warnings))
		for _, t := range c.Types[:min(len(c.Types), MaxRooms)] {
			errs = append(errs, checkLength("instance type's name", t.Name, MaxLabel))
		}
	}
	if types > MaxRooms {
		errs = append(errs, fmt.Errorf("found: %d instance types, at most %d are allowed", types, MaxRooms))
	}
	return errors.Join(append(errs, f.Inventory.validate(), f.Extension.validate())...)
}

func (i *Inventory) validate() error {
	var errs []error
	for _, of := range []map[string]string{i.Allocatable, i.Free} {
		if n := len(of); n > MaxInventory {
			errs = append(errs, fmt.Errorf("inventory: %d resources, at most %d are allowed", n, MaxInventory))
			continue
		}
		for name, amount := range of {
			errs = append(errs, CheckResource(name), CheckQuantity(amount))
		}
	}
	if n := len(i.InstanceTypes); n > MaxInventory {
		errs = append(errs, fmt.Errorf("inventory: %d instance types, at most %d are allowed", n, MaxInventory))
	} else {
		for name, t := range i.InstanceTypes {
			errs = append(errs, CheckInstanceType(name), t.validate())
		}
	}
	return errors.Join(append(errs, checkLength("proxy", i.Proxy, MaxNode+16))...)
}

func checkTexts(what string, texts []string) error {
	if len(texts) > MaxProblems {
		return fmt.Errorf("%s: %d, at most %d are allowed", what, len(texts), MaxProblems)
	}
	var errs []error
	for _, text := range texts {
		errs = append(errs, checkLength(what, text, MaxCheckText+4))
	}
	return errors.Join(errs...)
}
