package protocol

// Progress is what the agents have said of one attempt: the newest
// observation, and the end once there is one.
//
// Fold is a join: for the events of an attempt, of which at most one is an end
// (repeated as often as the network likes), every order and every repetition
// leads to the same Progress. Should an agent break that promise and send a
// second, different end, the one folded first stands: an end never changes.
type Progress struct {
	Latest *Event `json:"latest,omitempty"`
	End    *Event `json:"end,omitempty"`
}

// Fold returns the progress with e taken in, and whether that changed it.
// The events that p holds are never modified.
func (p Progress) Fold(e Event) (Progress, bool) {
	if e.State.Terminal() {
		if p.End != nil {
			// A leader that starts anew derives the same end again, under a
			// newer version: keep the oldest version, whatever came first.
			if sameEnd(*p.End, e) && e.Version.Compare(p.End.Version) < 0 {
				p.End = &e
				return p, true
			}
			return p, false
		}
		p.End = &e
		return p, true
	}
	if p.Latest != nil && e.Version.Compare(p.Latest.Version) <= 0 {
		return p, false
	}
	p.Latest = &e
	return p, true
}

// State is the attempt's state, and the reason that goes with it. An attempt
// of which nothing was said yet is Queued.
func (p Progress) State() (State, *Reason) {
	switch {
	case p.End != nil:
		return p.End.State, p.End.Reason
	case p.Latest != nil:
		return p.Latest.State, p.Latest.Reason
	}
	return Queued, nil
}

// Conflicts reports whether e is an end that contradicts the folded one.
func (p Progress) Conflicts(e Event) bool {
	return e.State.Terminal() && p.End != nil && !sameEnd(*p.End, e)
}

// sameEnd reports whether two ends say the same thing, whoever said it when.
func sameEnd(a, b Event) bool { return a.State == b.State && a.Retry == b.Retry }
