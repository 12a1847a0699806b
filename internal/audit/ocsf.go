package audit

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// schemaVersion is the OCSF release whose shape every line has.
const schemaVersion = "1.8.0"

// record is one event as JSON, complete but for metadata.sequence, which is
// known only when the event has its place in the log.
type record struct {
	code Code
	body []byte
	at   int // where in body the sequence goes
}

func (r record) appendTo(b []byte, sequence int64) []byte {
	b = append(b, r.body[:r.at]...)
	b = strconv.AppendInt(b, sequence, 10)
	b = append(b, r.body[r.at:]...)
	return append(b, '\n')
}

// encode turns e into a record. It reads all of e, so that the caller may
// change what e points to afterwards.
func encode(e Event, h *Host, now time.Time) record {
	if e.Time.IsZero() {
		e.Time = now
	}
	w := encoder{e: &e, h: h, shape: shapeOf(&e), tidied: e.tidy()}
	w.b = make([]byte, 0, e.room())
	w.open("")
	w.header()
	at, sizeAt := w.metadata(now)
	w.cloud()
	w.status()
	w.aggregate()
	w.classBody()
	w.deviceBlock()
	w.control()
	w.unmapped()
	w.close()
	if w.cut > 0 {
		size := strconv.Itoa((len(w.b) + w.cut + 1023) / 1024) // KiB
		w.b = slices.Insert(w.b, sizeAt, []byte(`,"untruncated_size":`+size)...)
	}
	return record{code: e.Code, body: w.b, at: at}
}

// room is more than most lines take, in bytes.
func (e *Event) room() int {
	room := 2048 + len(e.Command) + len(e.Detail)
	if e.Auth != nil {
		room += 256
	}
	if e.Hello != nil {
		room += 256 + len(e.Hello.HASSHAlgorithms)
	}
	if e.FileOp != nil {
		room += 256
	}
	return room
}

type encoder struct {
	object
	e *Event
	h *Host
	shape
	tidied
}

func (w *encoder) header() {
	w.num("class_uid", int64(w.class))
	w.num("category_uid", int64(w.class/1000))
	w.num("activity_id", int64(w.activity))
	w.str("activity_name", w.name)
	w.num("type_uid", int64(w.class*100+w.activity))
	w.num("time", w.e.Time.UnixMilli())
	w.date("time_dt", w.e.Time)
	level := w.severity(w.e)
	w.id("severity", int(level), level.caption())
}

// metadata returns where the sequence goes, and where untruncated_size goes
// if something had to be cut.
func (w *encoder) metadata(now time.Time) (at, sizeAt int) {
	w.open("metadata")
	w.str("version", schemaVersion)
	w.product("product")
	w.profileNames()
	w.str("log_name", "audit")
	w.str("event_code", string(w.e.Code))
	w.str("uid", newUID())
	w.key("sequence")
	at = len(w.b)
	w.num("logged_time", now.UnixMilli())
	w.str("correlation_uid", w.e.Session)
	if w.cut > 0 {
		w.truth("is_truncated", true)
	}
	sizeAt = len(w.b)
	w.close()
	return at, sizeAt
}

// newUID is a UUIDv7. Without randomness the process can't keep keys either,
// so that case is left to crypto/rand, which ends the process.
func newUID() string { return uuid.Must(uuid.NewV7()).String() }

func (w *encoder) product(name string) {
	w.open(name)
	w.str("name", "postern")
	w.str("vendor_name", "Postern")
	w.str("version", w.h.Version)
	w.close()
}

func (w *encoder) profileNames() {
	w.key("profiles")
	w.b = append(w.b, '[')
	w.profileName("cloud", w.h.inCloud())
	w.profileName("datetime", true)
	w.profileName("host", w.profiles&hostProfile != 0)
	w.profileName("load_balancer", w.profiles&loadBalancerProfile != 0)
	w.profileName("network_proxy", w.profiles&networkProxyProfile != 0)
	w.profileName("security_control", w.profiles&securityControlProfile != 0)
	w.b = append(w.b, ']')
}

func (w *encoder) profileName(name string, on bool) {
	if !on {
		return
	}
	w.comma()
	w.b = appendString(w.b, name)
}

func (h *Host) inCloud() bool { return h.Region != "" || h.Account != "" }

func (w *encoder) cloud() {
	if !w.h.inCloud() {
		return
	}
	w.open("cloud")
	w.str("provider", "AWS")
	w.str("region", w.h.Region)
	w.str("zone", w.h.Zone)
	if w.h.Account != "" {
		w.open("account")
		w.str("uid", w.h.Account)
		w.id("type", 10, "AWS Account")
		w.close()
	}
	w.close()
}

func (w *encoder) status() {
	switch {
	case w.failed(w.e):
		w.id("status", 2, "Failure")
	case w.e.Code != Traffic: // a report of bytes neither succeeds nor fails
		w.id("status", 1, "Success")
	}
	w.str("message", w.e.Message)
	w.str("status_code", w.statusCode())
	w.str("status_detail", w.e.Detail)
}

func (w *encoder) statusCode() string {
	if op := w.e.FileOp; w.e.Reason == "" && w.e.Code == FileOp && op != nil && w.failed(w.e) {
		return op.reason()
	}
	return w.e.Reason
}

// aggregate is for one event that stands for many; others carry no count. An
// event of a connection's end has its time span in the same place.
func (w *encoder) aggregate() {
	e := w.e
	if e.Count == 0 && e.Code != TargetClose {
		return
	}
	if e.Count != 0 {
		w.num("count", int64(e.Count))
	}
	if e.Start.IsZero() || e.End.IsZero() {
		return
	}
	w.moment("start_time", e.Start)
	w.moment("end_time", e.End)
	w.date("start_time_dt", e.Start)
	w.date("end_time_dt", e.End)
	w.num("duration", e.End.Sub(e.Start).Milliseconds())
}

func (w *encoder) classBody() {
	switch w.class {
	case 4007:
		w.sshActivity()
	case 4008:
		w.fileActivity()
	case 4001:
		w.networkActivity()
	case 3002:
		w.authentication()
	case 1007:
		w.processActivity()
	case 1008:
		w.eventLogActivity()
	case 3004:
		w.entityManagement()
	case 6003:
		w.apiActivity()
	case 6002:
		w.product("app")
	}
}

func (w *encoder) deviceBlock() {
	if w.profiles&hostProfile == 0 && w.class != 1007 && w.class != 1008 {
		return
	}
	w.open("device")
	w.id("type", 1, "Server")
	if w.class == 1007 && w.e.hasTarget() {
		w.targetAddress()
		w.close()
		return
	}
	w.str("hostname", w.h.Hostname)
	w.str("instance_uid", w.h.InstanceID)
	w.str("name", "postern")
	if w.e.Gate.IsValid() {
		w.str("ip", ip(w.e.Gate.Addr()))
	}
	w.close()
}

func (w *encoder) control() {
	if w.e.Alert {
		w.truth("is_alert", true)
	}
	if w.decision {
		v := allowed
		if w.failed(w.e) {
			v = w.refusal
		}
		w.id("action", v.action, v.caption())
		w.id("disposition", v.disposition, v.name)
	}
	if w.e.Policy != "" {
		w.open("policy")
		w.str("name", "postern")
		w.str("version", w.e.Policy)
		w.close()
	}
	if w.e.Rule != "" {
		w.open("firewall_rule")
		w.str("name", w.e.Rule)
		w.close()
	}
}

func (w *encoder) eventLogActivity() {
	if w.recording() {
		w.str("log_name", "recording")
		w.sessionActor()
		w.recordingPlace()
	} else {
		w.str("log_name", "audit")
	}
	w.id("log_type", 2, "Application")
	if w.e.File == "" {
		return
	}
	w.open("file")
	w.str("name", path.Base(w.e.File))
	w.str("path", w.e.File)
	w.id("type", 1, "Regular File")
	if w.e.FileHash != "" || w.e.FileSize > 0 {
		w.num("size", w.e.FileSize)
	}
	if w.e.FileHash != "" {
		w.array("hashes", func() { w.sha256(w.e.FileHash) })
	}
	w.close()
}

func (w *encoder) sha256(value string) {
	w.id("algorithm", 3, "SHA-256")
	w.str("value", value)
}

func (w *encoder) entityManagement() {
	if w.e.Admin != nil {
		w.adminActor()
		w.str("comment", w.e.Admin.Via)
	}
	w.open("entity")
	w.str("name", orElse(w.e.File, "configuration"))
	w.id("type", 5, "Policy")
	w.str("version", w.e.Entity)
	w.close()
}

func (w *encoder) apiActivity() {
	w.adminActor()
	w.open("api")
	operation, via := "unknown", ""
	if a := w.e.Admin; a != nil {
		operation, via = orElse(a.Operation, operation), a.Via
	}
	w.str("operation", operation)
	w.open("service")
	w.str("name", "postern-admin")
	w.close()
	w.close()
	w.open("src_endpoint")
	w.str("name", "local")
	w.str("svc_name", via)
	w.close()
	if entity := orElse(w.e.Entity, w.e.File); entity != "" {
		w.array("resources", func() {
			w.str("uid", entity)
			if strings.HasPrefix(operation, "recordings.") {
				w.str("type", "ssh.recording")
			}
		})
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
