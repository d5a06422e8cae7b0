// Package version says which build this is. A release's number is put in by
// the linker; without one, what the Go toolchain recorded of the module and
// its repository stands in, and "devel" where it recorded nothing.
package version

import (
	"fmt"
	"runtime/debug"
	"strings"
)

// number is set by the linker:
//
//	go build -ldflags "-X github.com/trainrelay/trainrelay/internal/version.number=v0.1.0"
var number string

// Short is the number alone, such as v0.1.0.
func Short() string { return read().number }

// String is the number with the commit and the toolchain, in one line.
func String() string {
	b := read()
	details := []string{b.goVersion + " " + b.platform}
	if b.commit != "" {
		details = append([]string{"commit " + b.commit}, details...)
	}
	return fmt.Sprintf("%s (%s)", b.number, strings.Join(details, ", "))
}

// Commit is the revision that was built, empty when unknown. It ends in
// "-dirty" where the work tree had changes.
func Commit() string { return read().commit }

type build struct {
	number, commit, goVersion, platform string
}

func read() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return describe(number, info)
}

func describe(number string, info *debug.BuildInfo) build {
	settings := make(map[string]string, len(info.Settings))
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	b := build{
		number:    number,
		commit:    settings["vcs.revision"],
		goVersion: info.GoVersion,
		platform:  settings["GOOS"] + "/" + settings["GOARCH"],
	}
	b.commit = b.commit[:min(len(b.commit), 12)]
	if b.commit != "" && settings["vcs.modified"] == "true" {
		b.commit += "-dirty"
	}
	if b.number == "" {
		b.number = info.Main.Version
	}
	if b.number == "" || b.number == "(devel)" {
		b.number = "devel"
	}
	return b
}
