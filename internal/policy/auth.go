package policy

import (
	"net/netip"
	"slices"
	"time"
)

// Key finds the identity that lists a public key, and the key's options. The
// Reason is "" where that identity may present the user name from this client
// at this time; else the Identity and Key are zero. An unknown user gets the
// same ReasonKeyUnknown as an unknown key, so user names cannot be probed
// without a key. That the client can sign with the key is for the caller to
// verify. Frozen identities are found too: Decide refuses them.
func (p *Policy) Key(user string, blob []byte, client netip.Addr, now time.Time) (Identity, Key, Reason) {
	if id, _, ok := p.ownerOf(blob); ok && !id.mayPresent(user) {
		return Identity{}, Key{}, ReasonUser
	}
	return p.KeyOf(blob, client, now)
}

// KeyOf is Key without the user name, for where that says something else than
// who presents it: in "login@target" it is the account at the target.
func (p *Policy) KeyOf(blob []byte, client netip.Addr, now time.Time) (Identity, Key, Reason) {
	id, key, ok := p.ownerOf(blob)
	switch {
	case !ok:
		return Identity{}, Key{}, ReasonKeyUnknown
	case len(key.From) > 0 && !holdsAddr(key.From, client.Unmap()):
		return Identity{}, Key{}, ReasonKeySource
	case ended(key.Expires, now):
		return Identity{}, Key{}, ReasonKeyExpired
	}
	found := id.clone()
	return found, found.Keys[p.keys[string(blob)].key], ""
}

// Certificate finds the identity that a user certificate stands for, by the
// wire-format key of the CA that signed it and its principals. Of several
// identities that match, the first that may present the user name wins. The
// Reason is ReasonKeyUnknown where none matches (no principals match none,
// though ssh-keygen reads them as all) and ReasonUser where none of those that
// match may present the name; then the Identity is zero. The certificate's
// signature, validity and options are for the caller to verify.
func (p *Policy) Certificate(user string, ca []byte, principals []string) (Identity, Reason) {
	return p.certified(ca, principals, func(id *Identity) bool { return id.mayPresent(user) })
}

// CertificateOf is Certificate without the user name: of several identities
// that match, the first in the order of the Spec.
func (p *Policy) CertificateOf(ca []byte, principals []string) (Identity, Reason) {
	return p.certified(ca, principals, func(*Identity) bool { return true })
}

func (p *Policy) certified(ca []byte, principals []string, accepts func(*Identity) bool) (Identity, Reason) {
	reason := ReasonKeyUnknown
	if p == nil {
		return Identity{}, reason
	}
	for i := range p.identities {
		id := &p.identities[i]
		if !p.certifies(id, ca, principals) {
			continue
		}
		if accepts(id) {
			return id.clone(), ""
		}
		reason = ReasonUser
	}
	return Identity{}, reason
}

// KeyStillValid reports whether the identity still lists the key, so that one
// which was removed cuts its live sessions. The options of the key are not
// looked at: they count at authentication.
func (p *Policy) KeyStillValid(identity string, blob []byte) bool {
	id, _, ok := p.ownerOf(blob)
	return ok && id.Name == identity
}

// AuthorityStillValid reports whether a certificate with these principals,
// signed by this CA key, still stands for the identity.
func (p *Policy) AuthorityStillValid(identity string, ca []byte, principals []string) bool {
	if p == nil {
		return false
	}
	i, ok := p.byName[identity]
	return ok && p.certifies(&p.identities[i], ca, principals)
}

func (p *Policy) ownerOf(blob []byte) (*Identity, Key, bool) {
	if p == nil {
		return nil, Key{}, false
	}
	owner, ok := p.keys[string(blob)]
	if !ok {
		return nil, Key{}, false
	}
	id := &p.identities[owner.identity]
	return id, id.Keys[owner.key], true
}

func (p *Policy) certifies(id *Identity, ca []byte, principals []string) bool {
	authority, ok := p.authorities[string(ca)]
	return ok && id.Authority == authority && slices.Contains(principals, id.Principal)
}

func (id *Identity) mayPresent(user string) bool {
	return slices.Contains(id.users(), user)
}

func (id *Identity) users() []string {
	if len(id.Users) == 0 {
		return []string{id.Name}
	}
	return id.Users
}

// ended reports whether an exclusive end has come. The zero end never comes;
// with the zero now every other has, since a forgotten clock must not allow.
func ended(end, now time.Time) bool {
	return !end.IsZero() && (now.IsZero() || !now.Before(end))
}

func holdsAddr(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
