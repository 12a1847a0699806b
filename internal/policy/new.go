package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// SpecError is one thing that is wrong in a Spec. Path is where, in the words
// of policy.yaml with the indexes of the Spec's slices: rules[2].listen,
// rules[0].allow[1], identities[3].keys[0], frozen[0].
type SpecError struct {
	Path string
	Msg  string // what is wrong and what to write
}

// Error returns the path and the message.
func (e *SpecError) Error() string { return e.Path + ": " + e.Msg }

// New checks a Spec and returns its Policy, which keeps no reference to it.
// The error joins (errors.Join) a *SpecError for each thing that is wrong:
// names that are missing, doubled or unknown, keys that two identities or
// authorities claim, verbs without what they need (and the reverse, which
// would grant nothing), and values that can never match. With any error there
// is no Policy.
func New(s Spec) (*Policy, error) {
	c := &checker{spec: &s}
	p := &Policy{
		version:     s.Version,
		byName:      map[string]int{},
		keys:        map[string]keyOwner{},
		authorities: map[string]string{},
		byIdentity:  map[string][]*Rule{},
		frozen:      map[string]bool{},
	}
	c.authorities(p)
	c.identities(p)
	c.rules(p)
	c.frozen(p)
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return p, nil
}

// checker fills a Policy from a Spec and gathers what is wrong.
type checker struct {
	spec *Spec
	errs []error
}

func (c *checker) add(path, format string, args ...any) {
	c.errs = append(c.errs, &SpecError{path, fmt.Sprintf(format, args...)})
}

func at(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func (c *checker) authorities(p *Policy) {
	names := map[string]bool{}
	for i, a := range c.spec.Authorities {
		path := at("authorities", i)
		c.name(path, "authority", a.Name, names)
		if len(a.Keys) == 0 {
			c.add(path, "authority %q has no keys, so it certifies nobody", a.Name)
		}
		for j, key := range a.Keys {
			keyPath := at(path+".keys", j)
			if len(key) == 0 {
				c.add(keyPath, "the key is empty")
			}
			if other, ok := p.authorities[string(key)]; ok {
				c.add(keyPath, "the key is listed by authority %q already", other)
			}
			p.authorities[string(key)] = a.Name
		}
	}
}

func (c *checker) identities(p *Policy) {
	names := map[string]bool{}
	for i := range c.spec.Identities {
		id := c.spec.Identities[i].clone()
		path := at("identities", i)
		c.name(path, "identity", id.Name, names)
		c.origin(path, id)
		c.users(path, i)
		p.byName[id.Name] = i
		for j, key := range id.Keys {
			c.key(at(path+".keys", j), key, p)
			p.keys[string(key.Blob)] = keyOwner{i, j}
		}
		p.identities = append(p.identities, id)
	}
}

// name checks a name that events, metrics and the command line will carry.
func (c *checker) name(path, what, name string, seen map[string]bool) {
	switch {
	case name == "":
		c.add(path+".name", "the %s has no name", what)
	case len(name) > 64:
		c.add(path+".name", "%s name of %d bytes: longer than 64", what, len(name))
	case strings.ContainsFunc(name, isUnprintable):
		c.add(path+".name", "%s name %q: only printable ASCII without spaces", what, name)
	case seen[name]:
		c.add(path+".name", "%s %q stands twice", what, name)
	}
	seen[name] = true
}

func isUnprintable(r rune) bool { return r <= ' ' || r >= 0x7f }

// origin checks that there is a way to become the identity.
func (c *checker) origin(path string, id Identity) {
	known := slices.ContainsFunc(c.spec.Authorities, func(a Authority) bool { return a.Name == id.Authority })
	switch {
	case id.Authority == "" && id.Principal != "":
		c.add(path+".principal", "identity %q has a principal and no authority that certifies it", id.Name)
	case id.Authority != "" && id.Principal == "":
		c.add(path+".authority", "identity %q has an authority and no principal, which would be everybody it certifies", id.Name)
	case id.Authority != "" && !known:
		c.add(path+".authority", "authority %q is unknown", id.Authority)
	case id.Authority == "" && len(id.Keys) == 0:
		c.add(path, "identity %q has neither keys nor authority and principal, so nobody can be it", id.Name)
	}
}

// users also checks that of two identities with one principal, each user name
// leads to one only: the second could never be reached by it.
func (c *checker) users(path string, i int) {
	id := &c.spec.Identities[i]
	for j, user := range id.Users {
		if user == "" || strings.ContainsFunc(user, isUnprintable) {
			c.add(at(path+".users", j), "user name %q: only printable ASCII without spaces", user)
		}
	}
	for _, other := range c.spec.Identities[:i] {
		if id.Authority == "" || id.Authority != other.Authority || id.Principal != other.Principal {
			continue
		}
		if k := slices.IndexFunc(id.users(), other.mayPresent); k >= 0 {
			c.add(path+".principal", "identity %q has principal %q and user name %q too", other.Name, id.Principal, id.users()[k])
		}
	}
}

func (c *checker) key(path string, key Key, p *Policy) {
	if len(key.Blob) == 0 {
		c.add(path, "the key is empty")
	}
	if owner, ok := p.keys[string(key.Blob)]; ok {
		c.add(path, "the key is listed by identity %q already: a key is one identity's", c.spec.Identities[owner.identity].Name)
	}
	c.prefixes(path+".from", key.From)
}

func (c *checker) prefixes(path string, list []netip.Prefix) {
	for i, p := range list {
		if err := checkPrefix(p); err != nil {
			c.add(at(path, i), "%v", err)
		}
	}
}

func (c *checker) frozen(p *Policy) {
	for i, name := range c.spec.Frozen {
		if _, ok := p.byName[name]; !ok {
			c.add(at("frozen", i), "identity %q is unknown", name)
		}
		p.frozen[name] = true
	}
}
