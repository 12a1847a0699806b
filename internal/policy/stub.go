package policy

import (
	"net/netip"
	"time"
)

// Policy is a checked Spec: immutable, safe for concurrent use. The nil Policy denies.
type Policy struct{}

// PortRange is an inclusive range of ports.
type PortRange struct{ First, Last uint16 }

// Target is one element of targets: or listen:.
type Target struct{}

// Hours is a weekly time window in a zone.
type Hours struct{}

func New(s Spec) (*Policy, error)                                     { panic("stub") }
func ParseTarget(s string) (Target, error)                            { panic("stub") }
func ParseListen(s string) (Target, error)                            { panic("stub") }
func NewHours(days []string, from, to, zone string) (*Hours, error)   { panic("stub") }
func CheckHost(host string) (addr netip.Addr, name string, err error) { panic("stub") }
func (p *Policy) Version() string                                     { panic("stub") }
func (p *Policy) WithFrozen(names ...string) *Policy                  { panic("stub") }
func (p *Policy) Key(user string, blob []byte, client netip.Addr, now time.Time) (Identity, Key, Reason) {
	panic("stub")
}
func (p *Policy) Certificate(user string, ca []byte, principals []string) (Identity, Reason) {
	panic("stub")
}
func (p *Policy) StillValid(identity string) Reason { panic("stub") }
func (p *Policy) MayResolve(r Request) bool         { panic("stub") }
func (p *Policy) Decide(r Request) Decision         { panic("stub") }
func (p *Policy) Explain(r Request) []Verdict       { panic("stub") }
func (p *Policy) Grants(identity, endpoint string, client netip.Addr, now time.Time) []Rule {
	panic("stub")
}
