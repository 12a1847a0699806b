package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// maxCommand bounds process.cmd_line, in bytes.
const maxCommand = 16 << 10

// field is one string of an event on its way into the record.
type field struct {
	name  string // in unmapped.postern, should it need a place there
	value *string
	limit int  // bytes
	keep  bool // a client chose it: what is not UTF-8 is kept as <name>_b64
}

// tidied is what had to be done to an event's strings.
type tidied struct {
	raw         []rawField
	cut         int    // bytes left out
	commandSize int    // of a command that was cut, in bytes
	commandHash string // its SHA-256 in hex
}

type rawField struct{ name, value string }

// tidy bounds the strings of e and makes them UTF-8. It replaces e.Auth,
// e.Hello, e.Admin and e.FileOp by copies and leaves the caller's alone.
func (e *Event) tidy() tidied {
	e.detach()
	var t tidied
	if len(e.Command) > maxCommand {
		hash := sha256.Sum256([]byte(e.Command))
		t.commandSize, t.commandHash = len(e.Command), hex.EncodeToString(hash[:])
	}
	e.eachField(&t)
	if e.Auth != nil {
		e.Auth.eachField(&t)
	}
	if e.Hello != nil {
		e.Hello.eachField(&t)
	}
	if e.Admin != nil {
		e.Admin.eachField(&t)
	}
	if e.FileOp != nil {
		e.FileOp.eachField(&t)
	}
	t.extra(e.Extra)
	return t
}

func (e *Event) detach() {
	if e.Auth != nil {
		auth := *e.Auth
		e.Auth = &auth
	}
	if e.Hello != nil {
		hello := *e.Hello
		e.Hello = &hello
	}
	if e.Admin != nil {
		admin := *e.Admin
		e.Admin = &admin
	}
	if e.FileOp != nil {
		op := *e.FileOp
		e.FileOp = &op
	}
}

func (t *tidied) tidy(fields []field) {
	for _, f := range fields {
		s := *f.value
		if len(s) <= f.limit && utf8.ValidString(s) {
			continue
		}
		text, _ := capped(s, f.limit)
		t.cut += len(s) - len(text)
		if f.keep && !utf8.ValidString(text) {
			t.raw = append(t.raw, rawField{f.name, text})
		}
		*f.value = strings.ToValidUTF8(text, "\uFFFD")
	}
}

func (t *tidied) extra(values map[string]any) {
	for name, value := range values {
		s, ok := value.(string)
		if !ok || len(s) <= maxValue && utf8.ValidString(s) {
			continue
		}
		text, _ := capped(s, maxValue)
		t.cut += len(s) - len(text)
		if !utf8.ValidString(text) {
			t.raw = append(t.raw, rawField{name, text})
		}
	}
}

func (e *Event) eachField(t *tidied) {
	t.tidy([]field{
		{"message", &e.Message, 4096, false},
		{"reason", &e.Reason, 256, false},
		{"detail", &e.Detail, 4096, false},
		{"session", &e.Session, 256, false},
		{"channel", &e.Channel, 64, false},
		{"channel_type", &e.Kind, 256, true},
		{"endpoint", &e.Endpoint, 256, false},
		{"user", &e.User, 1024, true},
		{"identity", &e.Identity, 1024, true},
		{"target_host", &e.TargetHost, 1024, true},
		{"login", &e.Login, 1024, true},
		{"rule", &e.Rule, 256, false},
		{"policy", &e.Policy, 256, false},
		{"command", &e.Command, maxCommand, true},
		{"terminal", &e.Terminal, 256, true},
		{"file", &e.File, 4096, true},
		{"file_hash", &e.FileHash, 256, false},
		{"entity", &e.Entity, 1024, true},
	})
}

func (a *Auth) eachField(t *tidied) {
	t.tidy([]field{
		{"method", &a.Method, 64, true},
		{"key", &a.Fingerprint, 256, false},
		{"key_algorithm", &a.Algorithm, 256, true},
		{"ca", &a.CA, 256, false},
		{"key_id", &a.KeyID, 1024, true},
		{"principal", &a.Principal, 1024, true},
	})
}

func (op *FileOperation) eachField(t *tidied) {
	t.tidy([]field{
		{"operation", &op.Action, 64, false},
		{"path", &op.Path, 4096, true},
		{"target_path", &op.To, 4096, true},
		{"sha256", &op.SHA256, 256, false},
		{"file_status", &op.Status, 256, true},
		{"file_command", &op.Command, 256, true},
	})
}

func (h *Hello) eachField(t *tidied) {
	t.tidy([]field{
		{"client_version", &h.Version, 256, true},
		{"client_hassh", &h.HASSH, 64, false},
		{"client_algorithms", &h.HASSHAlgorithms, 8192, true},
		{"server_hassh", &h.ServerHASSH, 64, false},
	})
}

func (a *Admin) eachField(t *tidied) {
	t.tidy([]field{
		{"admin", &a.Name, 256, true},
		{"operation", &a.Operation, 256, true},
		{"via", &a.Via, 1024, true},
	})
}
