package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	maxFile  = 1 << 20 // bytes of a YAML or key file
	maxDepth = 16      // of nested lists and mappings; the deepest real key is at 5
)

// decoder walks one YAML file and collects everything that is wrong with it.
// The package yaml only makes the tree: what a scalar means is decided by the
// key it stands under, so no value is ever guessed to be something else.
type decoder struct {
	file   string // as messages name it
	dir    string // relative paths in the file start here
	read   func(path string, limit int64) ([]byte, error)
	faults []Fault
	at     map[string]*yaml.Node // where each key that was read stands
}

func newDecoder(file, dir string) *decoder {
	return &decoder{file: file, dir: dir, read: readFile, at: map[string]*yaml.Node{}}
}

// value is one node of the tree and the key under which it stands.
type value struct {
	d    *decoder
	path string
	node *yaml.Node
}

// field is a key that a mapping may have.
type field struct {
	name     string
	required bool
	read     func(value)
}

func may(name string, read func(value)) field  { return field{name: name, read: read} }
func must(name string, read func(value)) field { return field{name: name, read: read, required: true} }

// document parses data and returns its only document, or false with at least
// one fault.
func (d *decoder) document(data []byte) (value, bool) {
	if !utf8.Valid(data) {
		d.whole("not UTF-8 text", "")
		return value{}, false
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		d.whole("the file is empty", "")
		return value{}, false
	} else if err != nil {
		d.syntax(err)
		return value{}, false
	}
	if err := dec.Decode(&second); err == nil {
		d.faults = append(d.faults, Fault{File: d.file, Line: second.Line, Column: second.Column,
			Msg: "a second document; only one is read, so there may be only one"})
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
	}
	root := value{d: d, node: doc.Content[0]}
	root.plain(0)
	return root, true
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntax reports an error of the YAML parser. It names at most a line, and not
// even that where it is the first.
func (d *decoder) syntax(err error) {
	f := Fault{File: d.file, Msg: "not valid YAML"}
	m := yamlError.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))
	if anchor := m != nil && strings.HasPrefix(m[2], "unknown anchor"); anchor {
		f.Msg += ": " + m[2] // the parser does not say where
	} else if m != nil {
		f.Line = 1
		if n, err := strconv.Atoi(m[1]); err == nil {
			f.Line = n
		}
		f.Msg += " at or just after this line: " + m[2]
	}
	if strings.Contains(f.Msg, "cannot start any token") {
		f.Hint = "YAML is indented with spaces, never with tabs; text that begins with @, ` or % needs quotes"
	}
	d.faults = append(d.faults, f)
}

// whole reports a fault of the file as a whole.
func (d *decoder) whole(msg, hint string) {
	d.faults = append(d.faults, Fault{File: d.file, Msg: msg, Hint: hint})
}

// faultAt reports a fault of the key path.
func (d *decoder) faultAt(path, msg, hint string) {
	d.faults = append(d.faults, d.placed(path, msg, hint))
}

// placed makes a fault of the key path, which stands at that key, or at the
// nearest key around it that the file has.
func (d *decoder) placed(path, msg, hint string) Fault {
	f := Fault{File: d.file, Path: path, Msg: msg, Hint: hint}
	for key := path; ; key = parent(key) {
		if n := d.at[key]; n != nil {
			f.Line, f.Column = n.Line, n.Column
			return f
		}
		if key == "" {
			return f
		}
	}
}

// parent cuts the last key or index off path.
func parent(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }

// fault reports a fault of v.
func (v value) fault(format string, args ...any) {
	v.d.faults = append(v.d.faults, v.faulty(fmt.Sprintf(format, args...)))
}

func (v value) faultHint(hint, format string, args ...any) {
	f := v.faulty(fmt.Sprintf(format, args...))
	f.Hint = hint
	v.d.faults = append(v.d.faults, f)
}

func (v value) faulty(msg string) Fault {
	return Fault{File: v.d.file, Line: v.node.Line, Column: v.node.Column, Path: v.path, Msg: msg}
}

// plain refuses what would make a file mean something else than a reader sees:
// anchors, aliases, merge keys, tags, repeated keys, deep nesting.
func (v value) plain(depth int) {
	n := v.node
	switch {
	case depth > maxDepth:
		v.fault("nested more than %d deep", maxDepth)
		return
	case n.Kind == yaml.AliasNode:
		v.fault("an alias (*%s); write the value out", shown(n.Value))
		return
	case n.Anchor != "":
		v.fault("an anchor (&%s); anchors and aliases are not read", shown(n.Anchor))
	case n.Style&yaml.TaggedStyle != 0:
		v.fault("a tag (%s); tags are not read", shown(n.Tag))
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, c := range n.Content {
			v.index(i, c).plain(depth + 1)
		}
	case yaml.MappingNode:
		v.plainKeys(depth)
	}
}

func (v value) plainKeys(depth int) {
	lines := map[string]int{}
	for key, val := range v.pairs() {
		key.plain(depth + 1)
		val.plain(depth + 1)
		name := key.node.Value
		switch first := lines[name]; {
		case key.node.Kind == yaml.AliasNode:
		case key.node.Kind != yaml.ScalarNode:
			key.fault("a key must be plain text")
		case key.node.Tag == "!!merge":
			key.fault("a merge key; write the keys out")
		case first != 0:
			key.fault("set twice; line %d has it already", first)
		default:
			lines[name] = key.node.Line
		}
	}
}

// pairs yields the keys and values of a mapping; both carry the value's path.
func (v value) pairs() iter.Seq2[value, value] {
	return func(yield func(key, val value) bool) {
		for i := 0; i+1 < len(v.node.Content); i += 2 {
			key, val := v.node.Content[i], v.node.Content[i+1]
			path := v.path
			if key.Kind == yaml.ScalarNode {
				path = v.under(shown(key.Value))
			}
			if !yield(value{v.d, path, key}, value{v.d, path, val}) {
				return
			}
		}
	}
}

// under is the path of the key name in v.
func (v value) under(name string) string {
	if v.path == "" {
		return name
	}
	return v.path + "." + name
}

func (v value) index(i int, n *yaml.Node) value {
	return value{v.d, v.path + "[" + strconv.Itoa(i) + "]", n}
}

// is reports whether v has the kind that its key wants; if not it says so.
func (v value) is(kind yaml.Kind) bool {
	v.d.at[v.path] = v.node
	switch {
	case v.node.Kind == kind && !v.null():
		return true
	case v.node.Kind == yaml.AliasNode: // reported by plain
	case v.null():
		v.fault("has no value; write %s, or leave the key out", map[yaml.Kind]string{
			yaml.ScalarNode: "one", yaml.SequenceNode: "[] for an empty list", yaml.MappingNode: "{} for none"}[kind])
	case kind == yaml.SequenceNode && v.node.Kind == yaml.ScalarNode:
		v.fault("want a list; write [%s]", shown(v.node.Value))
	default:
		v.fault("want %s, not %s", kindName(kind), kindName(v.node.Kind))
	}
	return false
}

func (v value) null() bool { return v.node.Kind == yaml.ScalarNode && v.node.Tag == "!!null" }

func kindName(k yaml.Kind) string {
	switch k {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a mapping of keys to values"
	}
	return "a single value"
}

// mapping reads a mapping that may have the given keys and no other.
func (v value) mapping(fields ...field) {
	if !v.is(yaml.MappingNode) {
		return
	}
	var names, seen []string
	for _, f := range fields {
		names = append(names, f.name)
	}
	for key, val := range v.pairs() {
		seen = append(seen, key.node.Value)
		i := slices.Index(names, key.node.Value)
		if i < 0 {
			key.unknown(names)
			continue
		}
		fields[i].read(val)
	}
	for _, f := range fields {
		if f.required && !slices.Contains(seen, f.name) {
			v.missing(f.name)
		}
	}
}

func (v value) missing(name string) {
	value{v.d, v.under(name), v.node}.fault("missing; it has no default")
}

func (v value) unknown(names []string) {
	if v.node.Kind == yaml.ScalarNode && v.node.Tag != "!!merge" { // else reported by plain
		v.fault("unknown key%s", nearest(v.node.Value, names))
	}
}

// names reads a mapping whose keys are names of the operator's choice.
func (v value) names(read func(name string, val value)) {
	if !v.is(yaml.MappingNode) {
		return
	}
	for key, val := range v.pairs() {
		if name, ok := key.text(); ok {
			read(name, val)
		}
	}
}

// list reads a list.
func (v value) list(read func(value)) {
	if !v.is(yaml.SequenceNode) {
		return
	}
	for i, n := range v.node.Content {
		read(v.index(i, n))
	}
}

// readFile returns the content of a regular file of at most limit bytes that
// not everybody may write.
func readFile(path string, limit int64) ([]byte, error) {
	// Opening a pipe would wait for its writer: look first.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Mode().Perm()&0o002 != 0:
		return nil, fmt.Errorf("everybody may write it (mode %04o); run: chmod o-w %s", info.Mode().Perm(), path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("larger than %d KiB", limit>>10)
	}
	return data, nil
}
