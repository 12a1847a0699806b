package policy

import (
	"slices"
	"strings"
)

// ruleInspection checks what goes with inspected verbs.
func (c *checker) ruleInspection(path string, r *Rule) {
	inspected := slices.ContainsFunc(r.Allow, Verb.Inspected)
	if len(r.Commands) > 0 && !slices.Contains(r.Allow, Exec) {
		c.add(path+".commands", "rule %q has commands and does not allow exec", r.Name)
	}
	for i, glob := range r.Commands {
		c.command(at(path+".commands", i), glob, r.Commands[:i])
	}
	if len(r.Env) > 0 && !inspected {
		c.add(path+".env", "rule %q has env and does not allow %s", r.Name, inspectedVerbs)
	}
	for i, glob := range r.Env {
		c.envName(at(path+".env", i), glob, r.Env[:i])
	}
	c.recording(path+".recording", r, inspected)
}

const inspectedVerbs = "shell, exec, sftp-read, sftp-write, agent or x11"

// command refuses what no command line that may match can hold.
func (c *checker) command(path, glob string, before []string) {
	switch {
	case glob == "":
		c.add(path, `the command is empty: write a command line, in which "*" stands for any run of characters`)
	case strings.ContainsAny(glob, commandBreaks):
		c.add(path, "command %q: a line with a newline, a carriage return or a NUL is never allowed by a list of commands", glob)
	case slices.Contains(before, glob):
		c.add(path, "command %q stands twice", glob)
	}
}

func (c *checker) envName(path, glob string, before []string) {
	switch {
	case strings.Trim(glob, "*_") == "":
		c.add(path, "environment variable %q: write a name such as TZ, or the beginning of some such as GIT_*", glob)
	case !isEnvName(strings.ReplaceAll(glob, "*", "x")):
		c.add(path, "environment variable %q: only letters, digits and underscores, and no digit first", glob)
	case slices.Contains(before, glob):
		c.add(path, "environment variable %q stands twice", glob)
	}
}

func (c *checker) recording(path string, r *Rule, inspected bool) {
	switch {
	case r.Recording != Recording{} && !inspected:
		c.add(path, "rule %q has recording and does not allow %s", r.Name, inspectedVerbs)
	case r.Recording.Off && r.Recording != Recording{Off: true}:
		c.add(path, "rule %q does not record, so input and on_failure say nothing", r.Name)
	}
}

// ruleVia keeps what goes through a target apart from what the gate dials: one
// list of targets can't mean both.
func (c *checker) ruleVia(path string, r *Rule) {
	path += ".via"
	if len(r.Via) > 0 && !slices.Equal(r.Allow, []Verb{Forward}) {
		c.add(path, "rule %q has via and allows other than forward: put what is not forward in a rule of its own", r.Name)
	}
	for i, t := range r.Via {
		if t.glob == "" && !t.cidr.IsValid() {
			c.add(at(path, i), "%s is not a target: write an address, a CIDR or a name, and ports", t)
		}
	}
}
