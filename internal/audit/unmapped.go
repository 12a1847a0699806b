package audit

import (
	"net/netip"
	"strconv"
	"strings"
)

// unmapped is what OCSF has no place for, in this class or at all.
func (w *encoder) unmapped() {
	start := len(w.b)
	w.open("unmapped")
	w.open("postern")
	empty := len(w.b)
	w.members(w.e.Extra)
	w.channelFacts()
	w.originFacts()
	w.credentialFacts()
	w.fileFacts()
	w.truncationFacts()
	if len(w.b) == empty {
		w.b = w.b[:start]
		return
	}
	w.close()
	w.close()
}

// fact adds a string unless the caller's Extra has the name already: an object
// with one name twice means different things to different readers.
func (w *encoder) fact(name, value string) {
	if _, taken := w.e.Extra[name]; !taken {
		w.str(name, value)
	}
}

func (w *encoder) numberFact(name string, value int64) {
	if _, taken := w.e.Extra[name]; !taken {
		w.num(name, value)
	}
}

func (w *encoder) truthFact(name string, value bool) {
	if _, taken := w.e.Extra[name]; !taken {
		w.truth(name, value)
	}
}

func (w *encoder) channelFacts() {
	e := w.e
	if n, err := strconv.ParseUint(e.Channel, 10, 32); err == nil {
		w.numberFact("channel", int64(n))
	} else {
		w.fact("channel", e.Channel)
	}
	switch w.class {
	case 1007:
		w.fact("request", e.Kind)
		w.fact("terminal", e.Terminal)
	case 4008: // Kind is app_protocol_name
		w.fact("login", e.Login)
	default:
		w.fact("channel_type", e.Kind)
		w.fact("login", e.Login)
	}
	if e.Code == ProcEnd {
		w.numberFact("bytes_in", e.BytesIn)
		w.numberFact("bytes_out", e.BytesOut)
	}
	if w.place == atTarget && e.TargetHost != "" && !strings.HasPrefix(e.TargetHost, "/") {
		w.fact("requested", requested(e))
	}
}

// requested is the target as the client wrote it: "node-3.internal:8088".
func requested(e *Event) string {
	host := e.TargetHost
	if e.Target.Port() == 0 {
		return host
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(e.Target.Port()))
}

// originFacts say where the client is in classes that have no place for it.
func (w *encoder) originFacts() {
	e := w.e
	if w.place == atNowhere && (e.Session != "" || e.Client.IsValid()) {
		w.addressFact("client", e.Client)
		w.fact("endpoint", e.Endpoint)
	}
	if e.Peer.IsValid() && e.Peer != e.source() && !w.behindLoadBalancer() {
		w.addressFact("peer", e.Peer)
	}
}

func (w *encoder) addressFact(name string, a netip.AddrPort) {
	if a.IsValid() {
		w.fact(name, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String())
	}
}

func (w *encoder) credentialFacts() {
	if a := w.e.Auth; a != nil && w.class == 3002 {
		w.fact("method", a.Method)
		w.fact("key", a.Fingerprint)
		w.fact("key_algorithm", a.Algorithm)
		w.fact("principal", a.Principal)
	}
	if h := w.e.Hello; h != nil {
		w.fact("client_version", h.Version)
		if w.class != 4007 {
			w.fact("client_hassh", h.HASSH)
		}
	}
	if a := w.e.Admin; a != nil && a.PID != 0 {
		w.open("peer_cred")
		w.num("uid", int64(a.UID))
		w.num("gid", int64(a.GID))
		w.num("pid", int64(a.PID))
		w.close()
	}
}

func (w *encoder) truncationFacts() {
	for _, f := range w.raw {
		w.base64(f.name+"_b64", f.value)
	}
	if w.commandSize > 0 {
		w.numberFact("command_size", int64(w.commandSize))
		w.fact("command_sha256", w.commandHash)
	}
}
