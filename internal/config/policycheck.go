package config

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"postern/internal/policy"
)

// reference is the use of a name that must be defined somewhere in the file.
type reference struct {
	at   value
	what string
	name string
}

// refer reads the name of an authority or identity.
func (p *policyFile) refer(what string) func(value) (string, bool) {
	return func(v value) (string, bool) {
		name, ok := v.text()
		if ok {
			p.refs = append(p.refs, reference{v, what, name})
		}
		return name, ok
	}
}

// undefined returns a fault for each name that is used and nowhere defined.
func (p *policyFile) undefined() []Fault {
	defined := map[string][]string{}
	for _, a := range p.spec.Authorities {
		defined[authorityName] = append(defined[authorityName], a.Name)
	}
	for _, id := range p.spec.Identities {
		defined[identityName] = append(defined[identityName], id.Name)
	}
	var faults []Fault
	for _, r := range p.refs {
		if names := defined[r.what]; !slices.Contains(names, r.name) {
			faults = append(faults, r.at.faulty("there is no "+r.what+" "+shown(r.name)+nearest(r.name, names)))
		}
	}
	return faults
}

const (
	authorityName = "authority"
	identityName  = "identity"
)

// rejected reports what policy.New has against spec, where it stands in the
// file. Of an element that could not be read whole it reports nothing more,
// because what is missing in it may be what could not be read.
func (p *policyFile) rejected(err error) {
	broken := map[string]bool{}
	for _, f := range p.faults {
		broken[element(f.Path)] = true
	}
	undefined := map[string]Fault{}
	for _, f := range p.undefined() {
		undefined[f.Path] = f
	}
	for _, e := range joined(err) {
		f := p.located(e)
		if _, known := undefined[f.Path]; !known && !broken[element(f.Path)] {
			p.faults = append(p.faults, f)
		}
	}
	if broken["identities"] || broken["authorities"] {
		return // no wonder that a name is missing
	}
	p.faults = slices.AppendSeq(p.faults, maps.Values(undefined))
}

// located makes a fault of an error of policy.New, whose path counts the
// identities and authorities that the file names.
func (p *policyFile) located(err error) Fault {
	e, ok := errors.AsType[*policy.SpecError](err)
	if !ok {
		return Fault{File: p.file, Msg: err.Error()}
	}
	for key := e.Path; key != ""; key = parent(key) {
		if at, ok := p.keyAt[key]; ok {
			at.Msg = e.Msg
			return at
		}
	}
	path := e.Path
	head, tail, _ := strings.Cut(path, "]")
	if name, ok := p.named[head+"]"]; ok {
		path = name + strings.TrimSuffix(tail, ".name")
	}
	return p.placed(path, e.Msg, "")
}

// element cuts path to the rule, identity or authority it is in.
func element(path string) string {
	section, rest, ok := strings.Cut(path, ".")
	if !ok || strings.HasSuffix(section, "]") {
		return section
	}
	name, _, _ := strings.Cut(rest, ".")
	return section + "." + name
}
