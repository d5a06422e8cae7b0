package v1

import "time"

// LogLine is a line of a job's output, or a mark where output was lost.
type LogLine struct {
	Time    time.Time `json:"time"`
	Job     string    `json:"job"`
	Attempt int       `json:"attempt"`
	Rank    int       `json:"rank"`
	Line    string    `json:"line"`
	Gap     string    `json:"gap,omitempty" doc:"why output before the next line of this rank was lost; then there is no line here"`
}

// LogList is a page of lines, oldest first.
type LogList struct {
	Value     []LogLine `json:"value"`
	NextLink  string    `json:"next_link,omitempty" doc:"path and query of the next page; a page may be short, even empty, and have one"`
	Truncated bool      `json:"truncated,omitempty" doc:"of the newest lines that were asked for, the older ones are left out: there are too many to look through, or they are too long"`
}
