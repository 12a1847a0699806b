package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the linker (-X main.version=1.0.0); a build without it is
// named by its module version.
var version string

// build is what this binary was made of.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from a tree with changes
	Go       string `json:"go"`
	Crypto   string `json:"x_crypto"` // version of golang.org/x/crypto
	Platform string `json:"platform"`
}

func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	for _, d := range info.Deps {
		if d.Path == "golang.org/x/crypto" {
			b.Crypto = d.Version
		}
	}
	return b
}

type versionCmd struct {
	JSON bool `help:"Print JSON."`
}

// Help has the examples of the command.
func (versionCmd) Help() string {
	return `Examples:

    postern version
    postern version --json`
}

// Run prints the build.
func (c *versionCmd) Run(e *env) error {
	b := thisBuild()
	if c.JSON {
		return printJSON(e.stdout, b)
	}
	fmt.Fprintf(e.stdout, "postern %s\n", b.Version)
	if b.Revision != "" {
		modified := map[bool]string{true: " (modified)"}[b.Modified]
		fmt.Fprintf(e.stdout, "revision %s%s\n", b.Revision, modified)
	}
	fmt.Fprintf(e.stdout, "%s %s, golang.org/x/crypto %s\n", b.Go, b.Platform, b.Crypto)
	return nil
}
