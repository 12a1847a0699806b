package audit

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

func (w *encoder) sshActivity() {
	w.sessionActor()
	w.authType()
	w.hello()
	w.network()
	w.traffic()
}

func (w *encoder) networkActivity() {
	w.sessionActor()
	w.network()
	w.open("proxy_endpoint")
	w.gateAddress()
	w.str("name", "postern")
	w.close()
	if w.e.Code == ForwardOpen && !strings.Contains(w.e.Kind, "streamlocal") {
		w.open("proxy_connection_info")
		if strings.HasPrefix(w.e.Kind, "forwarded-") {
			w.id("direction", 1, "Inbound")
		} else {
			w.id("direction", 2, "Outbound")
		}
		w.tcp()
		w.close()
	}
	w.str("app_protocol_name", "ssh")
	w.traffic()
}

func (w *encoder) authentication() {
	e, auth := w.e, w.e.Auth
	if auth == nil {
		auth = &Auth{}
	}
	failed := w.failed(e)
	w.user("user")
	if !failed {
		w.session()
	}
	w.open("service")
	w.str("name", "ssh")
	w.close()
	w.id("auth_protocol", 99, strings.TrimSpace("SSH "+auth.Method))
	if auth.Certificate {
		w.certificate(auth)
	}
	w.truth("is_remote", true)
	if !failed {
		w.truth("is_mfa", false)
		w.truth("is_new_logon", true)
	}
	w.id("logon_type", 3, "Network")
	w.endpoints()
}

func (w *encoder) certificate(a *Auth) {
	w.open("certificate")
	w.str("serial_number", strconv.FormatUint(a.Serial, 10))
	w.str("issuer", orElse(a.CA, "unknown"))
	w.str("subject", a.KeyID)
	w.str("uid", a.Algorithm)
	w.moment("created_time", a.ValidAfter)
	w.moment("expiration_time", a.ValidBefore)
	if hash := strings.TrimPrefix(a.Fingerprint, "SHA256:"); hash != "" {
		w.array("fingerprints", func() { w.sha256(hash) })
	}
	w.close()
}

func (w *encoder) processActivity() {
	e := w.e
	w.open("actor")
	w.user("user")
	w.session()
	w.close()
	if e.Code == ProcEnd {
		w.num("exit_code", int64(e.ExitCode))
	} else {
		w.id("launch_type", 3, "Exec")
	}
	w.open("process")
	w.str("uid", orElse(e.connection(), "postern"))
	w.str("name", orElse(e.Kind, "exec"))
	w.str("cmd_line", e.Command)
	w.processTimes()
	if e.Login != "" {
		w.open("user")
		w.str("name", e.Login)
		w.id("type", 1, "User")
		w.close()
	}
	w.close()
}

func (w *encoder) processTimes() {
	start := w.e.Start
	if start.IsZero() && w.e.Code == ProcStart {
		start = w.e.Time
	}
	w.moment("created_time", start)
	if w.e.Code == ProcEnd {
		w.moment("terminated_time", w.e.Time)
	}
}

// sessionActor is who acts in an authenticated session. Before that there is
// only where the connection comes from.
func (w *encoder) sessionActor() {
	if w.e.User == "" && w.e.Identity == "" {
		return
	}
	w.open("actor")
	w.user("user")
	w.session()
	w.close()
}

func (w *encoder) user(name string) {
	w.open(name)
	w.str("name", orElse(orElse(w.e.User, w.e.Identity), "unknown"))
	w.str("uid", w.e.Identity)
	w.id("type", 0, "Unknown")
	w.close()
}

func (w *encoder) session() {
	e := w.e
	if e.Session == "" {
		return
	}
	w.open("session")
	w.str("uid", e.Session)
	w.moment("created_time", e.Opened)
	w.truth("is_remote", true)
	if e.Auth != nil {
		w.str("issuer", e.Auth.CA)
		w.str("credential_uid", e.Auth.credential())
	}
	w.str("terminal", e.Terminal)
	w.close()
}

// credential names what was proved: "ssh-ed25519 key=SHA256:…", and for a
// certificate its serial.
func (a *Auth) credential() string {
	s := a.Algorithm
	if a.Certificate {
		s += " serial=" + strconv.FormatUint(a.Serial, 10)
	}
	if a.Fingerprint != "" {
		s += " key=" + a.Fingerprint
	}
	return strings.TrimSpace(s)
}

func (w *encoder) adminActor() {
	w.open("actor")
	a := w.e.Admin
	if a == nil {
		w.str("app_name", "postern")
		w.close()
		return
	}
	w.open("user")
	uid := strconv.Itoa(a.UID)
	w.str("name", orElse(a.Name, "uid "+uid))
	w.str("uid", uid)
	w.id("type", 2, "Admin")
	w.close()
	if a.PID != 0 {
		w.open("process")
		w.num("pid", int64(a.PID))
		w.close()
	}
	w.close()
}

func (w *encoder) authType() {
	if w.e.Auth == nil {
		return
	}
	switch method := w.e.Auth.Method; {
	case method == "publickey" && w.e.Auth.Certificate:
		w.id("auth_type", 1, "Certificate Based")
	case method == "publickey":
		w.id("auth_type", 6, "Public Key")
	case method != "":
		w.id("auth_type", 99, method)
	}
}

func (w *encoder) hello() {
	h := w.e.Hello
	if h == nil {
		return
	}
	if version, ok := strings.CutPrefix(h.Version, "SSH-"); ok {
		version, _, _ = strings.Cut(version, "-")
		w.str("protocol_ver", version)
	}
	w.hassh("client_hassh", h.HASSH, h.HASSHAlgorithms)
	w.hassh("server_hassh", h.ServerHASSH, "")
}

func (w *encoder) hassh(name, value, algorithms string) {
	if value == "" {
		return
	}
	w.open(name)
	w.open("fingerprint")
	w.id("algorithm", 1, "MD5")
	w.str("value", value)
	w.close()
	w.str("algorithm", algorithms)
	w.close()
}

func (w *encoder) network() {
	w.endpoints()
	if w.behindLoadBalancer() {
		w.open("load_balancer")
		w.str("name", "nlb")
		w.str("ip", ip(w.e.Peer.Addr()))
		w.str("uid", w.h.LoadBalancer)
		w.close()
	}
	if w.e.Session == "" {
		return
	}
	w.open("connection_info")
	if w.class == 4001 {
		w.str("uid", w.e.connection())
	} else {
		w.str("uid", w.e.Session)
	}
	w.id("direction", 1, "Inbound")
	w.tcp()
	w.ipVersion()
	w.close()
}

func (w *encoder) tcp() {
	w.str("protocol_name", "tcp")
	w.num("protocol_num", 6)
}

func (w *encoder) ipVersion() {
	switch source := w.e.source().Addr().Unmap(); {
	case source.Is4():
		w.num("protocol_ver_id", 4)
	case source.Is6():
		w.num("protocol_ver_id", 6)
	}
}

func (w *encoder) behindLoadBalancer() bool {
	e := w.e
	return w.profiles&loadBalancerProfile != 0 && e.Peer.IsValid() && e.Client.IsValid() && e.Peer != e.Client
}

func (w *encoder) endpoints() {
	w.sourceEndpoint()
	w.open("dst_endpoint")
	if w.place == atTarget && w.e.hasTarget() {
		w.targetAddress()
		if port := w.e.Target.Port(); port != 0 {
			w.num("port", int64(port))
		}
	} else {
		w.gateAddress()
		w.str("svc_name", "ssh")
	}
	w.close()
}

func (w *encoder) sourceEndpoint() {
	source := w.e.source()
	if !source.Addr().IsValid() && w.e.Endpoint == "" {
		return
	}
	w.open("src_endpoint")
	w.address(source)
	w.str("uid", w.e.Endpoint)
	w.close()
}

// source is the client, or the peer while nothing is known of a client.
func (e *Event) source() netip.AddrPort {
	if e.Client.Addr().IsValid() || e.Endpoint != "" {
		return e.Client
	}
	return e.Peer
}

func (w *encoder) address(a netip.AddrPort) {
	if a.Addr().IsValid() {
		w.str("ip", ip(a.Addr()))
	}
	if a.Port() != 0 {
		w.num("port", int64(a.Port()))
	}
}

func (w *encoder) gateAddress() {
	if w.e.Gate.IsValid() {
		w.address(w.e.Gate)
		return
	}
	w.str("hostname", orElse(w.h.Hostname, "postern"))
}

func (e *Event) hasTarget() bool {
	return e.TargetHost != "" || e.Target.Addr().IsValid() || e.Target.Port() != 0
}

// targetAddress writes the target as it was named and as it was resolved.
func (w *encoder) targetAddress() {
	host, addr := w.e.TargetHost, w.e.Target.Addr()
	literal, err := netip.ParseAddr(host)
	switch {
	case err == nil && !addr.IsValid():
		addr = literal
	case err == nil: // said by the address already
	case strings.HasPrefix(host, "/"):
		w.str("name", host) // a socket
	case host == "" && !addr.IsValid():
		w.str("name", "unknown")
	default:
		w.str("hostname", host)
	}
	if addr.IsValid() {
		w.str("ip", ip(addr))
	}
}

// ip is the text of an address as OCSF's ip_t has it: no 4-in-6 and no zone.
func ip(a netip.Addr) string { return a.Unmap().WithZone("").String() }

// connection names the channel an event is of, or else the session.
func (e *Event) connection() string {
	if e.Session == "" || e.Channel == "" {
		return e.Session
	}
	return e.Session + "/" + e.Channel
}

func (w *encoder) traffic() {
	e := w.e
	if e.Code == Traffic || e.Code == ForwardClose || e.BytesIn != 0 || e.BytesOut != 0 {
		w.bytes("traffic", e.BytesIn, e.BytesOut)
		w.timespan()
		w.close()
	}
	if e.Code == Traffic || e.Code == ConnClose {
		w.bytes("cumulative_traffic", e.TotalIn, e.TotalOut)
		if e.Code == ConnClose {
			w.moment("start_time", e.Start)
			w.moment("end_time", e.End)
			w.timespan()
		}
		w.close()
	}
}

func (w *encoder) bytes(name string, in, out int64) {
	w.open(name)
	w.num("bytes", in+out)
	w.num("bytes_in", in)
	w.num("bytes_out", out)
}

func (w *encoder) timespan() {
	if w.e.Start.IsZero() || w.e.End.IsZero() || w.e.Count != 0 {
		return
	}
	w.open("timespan")
	w.num("duration", int64(w.e.End.Sub(w.e.Start)/time.Millisecond))
	w.close()
}
