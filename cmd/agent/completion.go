package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help has the examples of the command.
func (completionCmd) Help() string {
	return `The packages install what it prints, so this is for a binary that came without them.

Examples:

    source <(postern completion bash)
    postern completion zsh >"${fpath[1]}/_postern"
    postern completion fish >~/.config/fish/completions/postern.fish`
}

// Run prints the completions of this binary's command line.
func (c *completionCmd) Run(e *env, app *kong.Kong) error {
	places := placesOf(app.Model.Node, nil, nil)
	print := map[string]func(io.Writer, []place){"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
	print[c.Shell](e.stdout, places)
	return nil
}

// place is a point on the command line where something can be completed: after
// the words of path.
type place struct {
	path     string // "audit verify", "" = right after postern
	commands []word // that may follow, and what an argument may be
	flags    []flagWord
}

type word struct{ name, help string }

type flagWord struct {
	word
	short  string
	values []string // that it takes; nil = anything, or nothing
	takes  bool     // a value follows
}

// placesOf walks the tree of commands from n down, parents first.
func placesOf(n *kong.Node, above []string, inherited []*kong.Flag) []place {
	flags := slices.Concat(inherited, n.Flags)
	p := place{path: strings.Join(above, " ")}
	for _, f := range flags {
		p.flags = append(p.flags, flagOf(f))
	}
	for _, arg := range n.Positional {
		if arg.Enum == "" {
			continue
		}
		for _, value := range arg.EnumSlice() {
			p.commands = append(p.commands, word{name: value})
		}
	}
	if n.DefaultCmd != nil {
		for _, f := range n.DefaultCmd.Flags {
			p.flags = append(p.flags, flagOf(f))
		}
	}
	var below []place
	for _, child := range n.Children {
		if child.Hidden {
			continue
		}
		p.commands = append(p.commands, word{child.Name, firstSentence(child.Help)})
		below = append(below, placesOf(child, append(slices.Clip(above), child.Name), flags)...)
	}
	return append([]place{p}, below...)
}

func flagOf(f *kong.Flag) flagWord {
	w := flagWord{word: word{"--" + f.Name, firstSentence(f.Help)}, takes: !f.IsBool()}
	if f.Short != 0 {
		w.short = string(f.Short)
	}
	if f.Enum != "" {
		w.values = f.EnumSlice()
	}
	return w
}

// firstSentence is plain text without what shells would read in a quoted
// string, short enough for a list.
func firstSentence(help string) string {
	if end := strings.Index(help, ". "); end >= 0 {
		help = help[:end]
	}
	help = strings.TrimSuffix(help, ".")
	return strings.Map(func(r rune) rune {
		if r == '\'' || r == '"' || r == ':' || r == '\\' || r == '$' || r == '`' || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, help)
}

// paths are the alternatives of a shell's case: every path but the empty one.
func paths(places []place, separator string) string {
	var all []string
	for _, p := range places {
		if p.path != "" {
			all = append(all, "'"+p.path+"'")
		}
	}
	return strings.Join(all, separator)
}

// walk is the shell code, the same in bash and zsh, that finds the place that
// the words before the cursor lead to.
const walk = `	local at='' next w
	for w in "${before[@]}"; do
		next="${at:+$at }$w"
		case "$next" in
		%s) at=$next ;;
		esac
	done
`

func bashCompletion(w io.Writer, places []place) {
	fmt.Fprint(w, "# bash completion for postern, printed by: postern completion bash\n_postern() {\n"+
		"	local before=(\"${COMP_WORDS[@]:1:COMP_CWORD-1}\") cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=''\n")
	fmt.Fprintf(w, walk, paths(places, " | "))
	fmt.Fprint(w, "	case \"$at $prev\" in\n")
	var free []string // flags whose value may be anything: a file, often
	for _, p := range places {
		for _, f := range p.flags {
			switch {
			case f.values != nil:
				fmt.Fprintf(w, "	%s) words='%s' at=- ;;\n", bashFlag(p.path, f), strings.Join(f.values, " "))
			case f.takes:
				free = append(free, bashFlag(p.path, f))
			}
		}
	}
	fmt.Fprintf(w, "	%s) at=- ;;\n	esac\n	case \"$at\" in\n", strings.Join(free, " | "))
	for _, p := range places {
		fmt.Fprintf(w, "	'%s') words='%s' ;;\n", p.path, strings.Join(names(p), " "))
	}
	fmt.Fprint(w, "	esac\n	mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n}\ncomplete -o default -F _postern postern\n")
}

// bashFlag is the pattern for a flag whose value is completed.
func bashFlag(path string, f flagWord) string {
	pattern := "'" + path + " " + f.name + "'"
	if f.short != "" {
		pattern += " | '" + path + " -" + f.short + "'"
	}
	return pattern
}

func names(p place) []string {
	var all []string
	for _, c := range p.commands {
		all = append(all, c.name)
	}
	for _, f := range p.flags {
		all = append(all, f.name)
	}
	return all
}

func zshCompletion(w io.Writer, places []place) {
	fmt.Fprint(w, "#compdef postern\n# zsh completion for postern, printed by: postern completion zsh\n_postern() {\n"+
		"	local -a before commands flags\n	before=(\"${(@)words[2,CURRENT-1]}\")\n")
	fmt.Fprintf(w, walk, paths(places, " | "))
	fmt.Fprint(w, "	case \"$at\" in\n")
	for _, p := range places {
		fmt.Fprintf(w, "	'%s')\n		commands=(%s)\n		flags=(%s) ;;\n", p.path, described(p.commands), described(flagWords(p)))
	}
	fmt.Fprint(w, "	esac\n	(( $#commands )) && _describe command commands\n	_describe flag flags\n	(( $#commands )) || _files\n}\n"+
		"[ \"$funcstack[1]\" != _postern ] || _postern \"$@\"\n")
}

func flagWords(p place) []word {
	var all []word
	for _, f := range p.flags {
		all = append(all, f.word)
	}
	return all
}

// described is a list for zsh's _describe.
func described(words []word) string {
	var all []string
	for _, w := range words {
		all = append(all, "'"+w.name+":"+w.help+"'")
	}
	return strings.Join(all, " ")
}

func fishCompletion(w io.Writer, places []place) {
	fmt.Fprintf(w, `# fish completion for postern, printed by: postern completion fish
function __postern_at
	set -l at
	for w in (commandline -opc)[2..]
		switch (string join ' ' -- $at $w)
			case %s
				set at $at $w
		end
	end
	test "$at" = "$argv[1]"
end
`, paths(places, " "))
	for _, p := range places {
		where := fmt.Sprintf("complete -c postern -n '__postern_at \"%s\"'", p.path)
		for _, c := range p.commands {
			fmt.Fprintf(w, "%s -f -a %s -d '%s'\n", where, c.name, c.help)
		}
		for _, f := range p.flags {
			fmt.Fprintf(w, "%s%s\n", where, fishFlag(f))
		}
	}
}

func fishFlag(f flagWord) string {
	s := " -l " + strings.TrimPrefix(f.name, "--")
	if f.short != "" {
		s += " -s " + f.short
	}
	if f.takes {
		s += " -r"
	}
	if f.values != nil {
		s += " -f -a '" + strings.Join(f.values, " ") + "'"
	}
	return s + " -d '" + f.help + "'"
}
