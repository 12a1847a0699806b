package audit

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// Facts are what a reader asks of any event.
type Facts struct {
	Code     Code
	Time     time.Time
	Session  string // "" = of no session
	Identity string // who proved it; "" before that, and in events of no session
	User     string // the SSH user name presented; of an Admin the account on the host
	Admin    bool   // somebody on the host, not a client
	Endpoint string
	Client   string // address and port
	Target   string // host:port as the client wrote it, or what there is of that; "" = none
	Login    string
	Rule     string
	Reason   string
	Message  string
	Detail   string
	Command  string // proc.*
	Resource string // what an admin.action or log.access was about
	Failed   bool
	Alert    bool
}

// eventFields are the members of a line that a Query or a reader can ask for.
type eventFields struct {
	sequence, time, class int64
	code, session         text
	status, reason        text
	message, detail       text
	actor, user           accountFields
	src                   spotFields
	dst, device           spotFields
	processUser, command  text // process.user.name, process.cmd_line
	rule                  text
	resource              text
	own                   ownFields
	alert                 bool
}

type accountFields struct {
	name, uid text
	kind      int64
}

// spotFields are an OCSF endpoint or device.
type spotFields struct {
	hostname, ip, name, uid, service text
	port                             int64
}

// ownFields are those in unmapped.postern.
type ownFields struct{ login, client, endpoint, requested text }

// adminAccount is type_id of an OCSF user who is one on the host.
const adminAccount = 2

// parse reads line, which must be the event with the index want. What f points
// to is good as long as line is.
func (f *eventFields) parse(line []byte, want int64) error {
	*f = eventFields{sequence: -1}
	if len(line) == 0 || line[0] != '{' {
		return errNoObject
	}
	w := walker{b: line}
	w.object(func(key []byte) { f.member(&w, key) })
	switch {
	case w.bad || w.i != len(line):
		return fmt.Errorf("event %d is no JSON", want)
	case f.sequence < 0:
		return fmt.Errorf("event %d has no metadata.sequence", want)
	case f.sequence != want:
		return fmt.Errorf("event %d stands where event %d should", f.sequence, want)
	}
	return nil
}

func (f *eventFields) member(w *walker, key []byte) {
	switch string(key) {
	case "time":
		w.number(&f.time)
	case "class_uid":
		w.number(&f.class)
	case "metadata":
		w.object(func(key []byte) { f.metadata(w, key) })
	case "status":
		w.text(&f.status)
	case "status_code":
		w.text(&f.reason)
	case "status_detail":
		w.text(&f.detail)
	case "message":
		w.text(&f.message)
	case "actor":
		w.object(func(key []byte) { w.accountUnder(key, &f.actor) })
	case "user":
		w.account(&f.user)
	case "src_endpoint":
		w.spot(&f.src)
	case "dst_endpoint":
		w.spot(&f.dst)
	case "device":
		w.spot(&f.device)
	case "process":
		w.object(func(key []byte) { f.process(w, key) })
	case "firewall_rule":
		w.named(&f.rule)
	case "resources":
		w.array(func() { w.resource(&f.resource) })
	case "unmapped":
		w.object(func(key []byte) { f.unmapped(w, key) })
	case "is_alert":
		w.truth(&f.alert)
	default:
		w.skip()
	}
}

func (f *eventFields) metadata(w *walker, key []byte) {
	switch string(key) {
	case "sequence":
		w.number(&f.sequence)
	case "event_code":
		w.text(&f.code)
	case "correlation_uid":
		w.text(&f.session)
	default:
		w.skip()
	}
}

func (f *eventFields) process(w *walker, key []byte) {
	switch string(key) {
	case "user":
		w.named(&f.processUser)
	case "cmd_line":
		w.text(&f.command)
	default:
		w.skip()
	}
}

func (f *eventFields) unmapped(w *walker, key []byte) {
	if string(key) != "postern" {
		w.skip()
		return
	}
	w.object(func(key []byte) {
		switch string(key) {
		case "login":
			w.text(&f.own.login)
		case "client":
			w.text(&f.own.client)
		case "endpoint":
			w.text(&f.own.endpoint)
		case "requested":
			w.text(&f.own.requested)
		default:
			w.skip()
		}
	})
}

func (w *walker) accountUnder(key []byte, a *accountFields) {
	if string(key) != "user" {
		w.skip()
		return
	}
	w.account(a)
}

func (w *walker) account(a *accountFields) {
	w.object(func(key []byte) {
		switch string(key) {
		case "name":
			w.text(&a.name)
		case "uid":
			w.text(&a.uid)
		case "type_id":
			w.number(&a.kind)
		default:
			w.skip()
		}
	})
}

func (w *walker) spot(s *spotFields) {
	w.object(func(key []byte) {
		switch string(key) {
		case "hostname":
			w.text(&s.hostname)
		case "ip":
			w.text(&s.ip)
		case "name":
			w.text(&s.name)
		case "uid":
			w.text(&s.uid)
		case "svc_name":
			w.text(&s.service)
		case "port":
			w.number(&s.port)
		default:
			w.skip()
		}
	})
}

// named takes the name of an object.
func (w *walker) named(t *text) {
	w.object(func(key []byte) {
		if string(key) == "name" {
			w.text(t)
			return
		}
		w.skip()
	})
}

func (w *walker) resource(t *text) {
	w.object(func(key []byte) {
		if string(key) == "uid" {
			w.text(t)
			return
		}
		w.skip()
	})
}

func (f *eventFields) when() time.Time { return time.UnixMilli(f.time) }

func (f *eventFields) failed() bool { return string(f.status.decode()) == "Failure" }

// who is the account that acts: in auth.* it stands in user, else in actor.
func (f *eventFields) who() *accountFields {
	if len(f.actor.name) > 0 || len(f.actor.uid) > 0 {
		return &f.actor
	}
	return &f.user
}

func (f *eventFields) identity() text {
	if who := f.who(); who.kind != adminAccount {
		return who.uid
	}
	return nil
}

func (f *eventFields) login() text {
	if len(f.own.login) > 0 {
		return f.own.login
	}
	return f.processUser
}

func (f *eventFields) endpoint() text {
	if len(f.src.uid) > 0 {
		return f.src.uid
	}
	return f.own.endpoint
}

// target is where an event is about; nil = the gate, or nowhere.
func (f *eventFields) target() *spotFields {
	switch {
	case f.class == 1007 && string(f.device.name) != "postern":
		return &f.device
	case f.class != 1007 && string(f.dst.service) != "ssh":
		return &f.dst
	}
	return nil
}

// facts are f as plain values.
func (f *eventFields) facts() Facts {
	who := f.who()
	return Facts{
		Code: Code(f.code.String()), Time: f.when(), Session: f.session.String(),
		Identity: f.identity().String(), User: who.name.String(), Admin: who.kind == adminAccount,
		Endpoint: f.endpoint().String(), Client: f.client(), Target: f.place(), Login: f.login().String(),
		Rule: f.rule.String(), Reason: f.reason.String(), Message: f.message.String(), Detail: f.detail.String(),
		Command:  f.command.String(),
		Resource: f.resource.String(), Failed: f.failed(), Alert: f.alert,
	}
}

func (f *eventFields) client() string {
	if len(f.src.ip) > 0 {
		return string(f.src.ip.withPort(f.src.port))
	}
	return f.own.client.String()
}

// place is the target in words.
func (f *eventFields) place() string {
	if len(f.own.requested) > 0 {
		return f.own.requested.String()
	}
	s := f.target()
	if s == nil {
		return ""
	}
	for _, host := range []text{s.hostname, s.name, s.ip} {
		if len(host) > 0 {
			return string(host.withPort(s.port))
		}
	}
	return ""
}

// withPort is t and a port that is known, as one writes them.
func (t text) withPort(port int64) []byte {
	host := t.decode()
	if port == 0 {
		return host
	}
	b := make([]byte, 0, len(host)+8)
	if a, err := netip.ParseAddr(string(host)); err == nil && a.Is6() {
		b = append(append(append(b, '['), host...), ']')
	} else {
		b = append(b, host...)
	}
	return strconv.AppendInt(append(b, ':'), port, 10)
}
