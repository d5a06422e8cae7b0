package inventory

import (
	"encoding/json"

	"github.com/trainrelay/trainrelay/protocol"
)

// briefText is what is kept of a text where there are too many.
const briefText = 160

// shorten takes from what was found until a sync can carry it: warnings, all
// problems of a compute but the first, then what fits.
func shorten(f *protocol.Found) {
	for _, step := range []func(*protocol.ComputeFound){
		func(*protocol.ComputeFound) {},
		func(c *protocol.ComputeFound) { c.Warnings = nil },
		func(c *protocol.ComputeFound) {
			if len(c.Problems) > 0 {
				c.Problems = []string{protocol.Cut(c.Problems[0], briefText)}
			}
		},
		func(c *protocol.ComputeFound) { c.Types = nil },
	} {
		for i := range f.Computes {
			step(&f.Computes[i])
		}
		if text, err := json.Marshal(f); err == nil && len(text) <= protocol.MaxFound {
			return
		}
	}
	f.Inventory.InstanceTypes = nil
}
