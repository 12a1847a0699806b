package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// processors are those that packages are built for: what is linked in differs.
var processors = []string{"amd64", "arm64"}

// licenceFile is what modules call the texts that must go with them.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|copyright)([.-].*)?$`)

// text is one licence and the modules that it came with.
type text struct {
	body    string
	modules []string // sorted
}

// licenses writes each text that came with the program's packages, once, under
// the names of the modules that it came with. A module without one is an error:
// nobody may then pass it on.
func licenses(w io.Writer, program string) error {
	files, err := licenceFiles(program)
	if err != nil {
		return err
	}
	texts, err := group(files)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "postern is linked with Go's standard library and these modules, under these licences.\n")
	for _, t := range texts {
		fmt.Fprintf(w, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(t.modules, "\n"), t.body)
	}
	return nil
}

// linked is a package as go list describes it.
type linked struct {
	Dir      string
	Standard bool
	Module   *module
}

type module struct {
	Path, Version, Dir string
	Main               bool
}

func (m module) String() string { return m.Path + " " + m.Version }

// licenceFiles returns the files that lie in the folders of linked packages and
// above them, by module.
func licenceFiles(program string) (map[string][]string, error) {
	found := map[string][]string{}
	for _, arch := range processors {
		packages, err := dependencies(program, arch)
		if err != nil {
			return nil, err
		}
		for _, p := range packages {
			name, root := p.from()
			if name == "" {
				continue
			}
			files, err := above(p.Dir, root)
			if err != nil {
				return nil, err
			}
			found[name] = append(found[name], files...)
		}
	}
	return found, nil
}

// from is the name and the root folder of what the package came with, "" for
// this module.
func (p linked) from() (name, root string) {
	switch {
	case p.Standard:
		return "Go " + strings.TrimPrefix(runtime.Version(), "go"), filepath.Dir(goroot(p.Dir))
	case p.Module == nil || p.Module.Main:
		return "", ""
	}
	return p.Module.String(), p.Module.Dir
}

// goroot returns the src folder that dir is in.
func goroot(dir string) string {
	for filepath.Base(dir) != "src" && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	return dir
}

func dependencies(program, arch string) ([]linked, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=Dir,Standard,Module", program)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list what %s is linked with: %w\n%s", program, err, stderr.String())
	}
	var all []linked
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p linked
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

// above returns the licence files in dir and in the folders above it up to root.
func above(dir, root string) ([]string, error) {
	var found []string
	for {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Type().IsRegular() && licenceFile.MatchString(e.Name()) && filepath.Ext(e.Name()) != ".go" {
				found = append(found, filepath.Join(dir, e.Name()))
			}
		}
		if dir == root || dir == filepath.Dir(dir) {
			return found, nil
		}
		dir = filepath.Dir(dir)
	}
}

// group reads the files and joins those with the same words.
func group(files map[string][]string) ([]text, error) {
	modules := map[string][]string{}
	for name, paths := range files {
		if len(paths) == 0 {
			return nil, fmt.Errorf("%s came without a licence", name)
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			body := strings.TrimSpace(strings.ReplaceAll(string(b), "\r\n", "\n"))
			modules[body] = append(modules[body], name)
		}
	}
	var all []text
	for body, names := range modules {
		slices.Sort(names)
		all = append(all, text{body, slices.Compact(names)})
	}
	slices.SortFunc(all, func(a, b text) int { return slices.Compare(append(a.modules, a.body), append(b.modules, b.body)) })
	return all, nil
}
