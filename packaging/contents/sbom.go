package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"runtime/debug"
	"strings"
)

// bom is a bill of materials: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/.
// It has no serial number and no time, so that the same binary gives the same
// bytes.
type bom struct {
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	PURL       string     `json:"purl"`
	Licences   []choice   `json:"licenses,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type choice struct {
	Licence struct {
		ID string `json:"id"` // of SPDX
	} `json:"license"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// sbom writes what the linker put into a binary. Modules must be in the module
// cache, where their licences are read.
func sbom(w io.Writer, binary, version string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read what %s was built of: %w", binary, err)
	}
	dirs, err := moduleDirs()
	if err != nil {
		return err
	}
	b := bom{Format: "CycloneDX", Spec: "1.6", Version: 1}
	b.Metadata.Component = program(info, version)
	b.Components = []component{library("std", strings.TrimPrefix(info.GoVersion, "go"))}
	b.Components[0].Licences = licence("BSD-3-Clause")
	for _, m := range info.Deps {
		c, err := dependencyOf(m, dirs[m.Path+"@"+m.Version])
		if err != nil {
			return err
		}
		b.Components = append(b.Components, c)
	}
	uses := dependency{Ref: b.Metadata.Component.Ref}
	for _, c := range b.Components {
		uses.DependsOn = append(uses.DependsOn, c.Ref)
	}
	b.Dependencies = []dependency{uses}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(b)
}

func library(path, version string) component {
	purl := "pkg:golang/" + path + "@" + version
	return component{Type: "library", Ref: purl, Name: path, Version: version, PURL: purl}
}

// program is the binary itself, with how it was built. A binary built with
// -trimpath does not know the version that the linker set.
func program(info *debug.BuildInfo, version string) component {
	c := library(info.Main.Path, version)
	c.Type, c.Licences = "application", licence("Apache-2.0")
	for _, s := range info.Settings {
		switch s.Key {
		case "GOARCH", "GOOS", "CGO_ENABLED", "vcs.revision", "vcs.modified":
			c.Properties = append(c.Properties, property{"go:build:" + s.Key, s.Value})
		}
	}
	return c
}

func dependencyOf(m *debug.Module, dir string) (component, error) {
	c := library(m.Path, m.Version)
	if m.Replace != nil {
		return c, fmt.Errorf("%s is replaced by %s, which this program does not describe", m.Path, m.Replace.Path)
	}
	id, err := licenceOf(dir)
	if err != nil {
		return c, fmt.Errorf("%s: %w", m.Path, err)
	}
	c.Licences = licence(id)
	c.Properties = []property{{"go:sum", m.Sum}}
	return c, nil
}

func licence(id string) []choice {
	var c choice
	c.Licence.ID = id
	return []choice{c}
}

// moduleDirs are the folders of this module's dependencies, by path@version.
func moduleDirs() (map[string]string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Path}}@{{.Version}} {{.Dir}}", "all").Output()
	if err != nil {
		return nil, fmt.Errorf("list the modules: %w", err)
	}
	dirs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if name, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			dirs[name] = dir
		}
	}
	return dirs, nil
}
