package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// storyEvent is an event as the story of its session needs it.
type storyEvent struct {
	Millis      int64 `json:"time"`
	Message     string
	Disposition string
	Status      string
	Reason      string `json:"status_code"`
	Detail      string `json:"status_detail"`
	Alert       bool   `json:"is_alert"`
	Count       int
	Protocol    string   `json:"app_protocol_name"`
	ExitCode    int      `json:"exit_code"`
	Responses   []string `json:"command_responses"`
	Metadata    struct {
		Code    Code   `json:"event_code"`
		Session string `json:"correlation_uid"`
	}
	Actor struct {
		User    storyUser
		Session struct {
			Credential string `json:"credential_uid"`
		}
	}
	User        storyUser
	Src         storyPlace `json:"src_endpoint"`
	Dst         storyPlace `json:"dst_endpoint"`
	Device      storyPlace
	Balancer    storyPlace `json:"load_balancer"`
	Certificate *struct {
		Serial  string `json:"serial_number"`
		Issuer  string
		Subject string
		Expires int64 `json:"expiration_time"`
	}
	Process struct {
		Name    string
		Command string `json:"cmd_line"`
		Created int64  `json:"created_time"`
		User    storyUser
	}
	Traffic    storyBytes
	Cumulative storyBytes `json:"cumulative_traffic"`
	Duration   int64
	File       struct {
		Path   string
		Size   *int64
		Hashes []struct{ Value string }
	}
	Rule     struct{ Name string } `json:"firewall_rule"`
	Policy   struct{ Version string }
	Unmapped struct{ Postern storyFacts }
}

type storyUser struct {
	Name, UID string
	Kind      int64 `json:"type_id"`
}

type storyPlace struct {
	Hostname, IP, Name, UID string
	Instance                string `json:"instance_uid"`
	Service                 string `json:"svc_name"`
	Port                    int
}

type storyBytes struct {
	In       int64 `json:"bytes_in"`
	Out      int64 `json:"bytes_out"`
	Timespan struct{ Duration int64 }
}

// storyFacts are those of unmapped.postern.
type storyFacts struct {
	Channel      json.RawMessage
	ChannelType  string `json:"channel_type"`
	Login        string
	Requested    string
	Client       string
	Endpoint     string
	Method       string
	Key          string
	KeyAlgorithm string `json:"key_algorithm"`
	Version      string `json:"client_version"`
	Terminal     string
	Recording    string
	Complete     *bool
	Inspected    bool
	Operation    string
	To           string `json:"target_path"`
	HashComplete *bool  `json:"hash_complete"`
	Entries      int64
	Millis       int64 `json:"duration_ms"`
	BytesIn      int64 `json:"bytes_in"`
	BytesOut     int64 `json:"bytes_out"`
	Signal       string
	HostKey      string `json:"host_key"`
}

// parseStory reads a line. What has another type than it should is left out.
func parseStory(line []byte) (*storyEvent, error) {
	e := &storyEvent{}
	err := json.Unmarshal(line, e)
	if _, other := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !other {
		return nil, fmt.Errorf("read an event: %w", err)
	}
	return e, nil
}

func (e *storyEvent) at() time.Time { return time.UnixMilli(e.Millis).UTC() }

func (e *storyEvent) failed() bool { return e.Status == "Failure" }

func (e *storyEvent) code() Code { return e.Metadata.Code }

func (e *storyEvent) channel() string { return strings.Trim(string(e.Unmapped.Postern.Channel), `"`) }

// onChannel names the channel, in words that follow what happened there.
func (e *storyEvent) onChannel() string {
	if e.channel() == "" {
		return ""
	}
	return " (channel " + e.channel() + ")"
}

// who is the account that acts; in auth.* it stands in user.
func (e *storyEvent) who() storyUser {
	if e.Actor.User != (storyUser{}) {
		return e.Actor.User
	}
	return e.User
}

// destination is the place the event is about, with the account there.
func (e *storyEvent) destination() string {
	own := e.Unmapped.Postern
	at := e.Dst
	login := own.Login
	if e.Process.Name != "" {
		at, login = e.Device, e.Process.User.Name
		if at.Name == "postern" {
			return "the gate"
		}
	}
	place := own.Requested
	if place == "" {
		place = at.String()
	}
	place = strings.TrimSuffix(place, ":22")
	if login != "" {
		place = login + "@" + place
	}
	if at.IP != "" && !strings.Contains(place, at.IP) {
		place += " [" + at.IP + "]"
	}
	return place
}

func (p storyPlace) String() string {
	host := orElse(orElse(p.Hostname, p.Name), p.IP)
	if p.Port == 0 {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(p.Port))
}

// client is where the session comes from.
func (e *storyEvent) client() string {
	if e.Src.IP != "" {
		return e.Src.String()
	}
	return e.Unmapped.Postern.Client
}

func (e *storyEvent) endpoint() string { return orElse(e.Src.UID, e.Unmapped.Postern.Endpoint) }

// by is the rule, in words that follow what it allowed.
func (e *storyEvent) by() string {
	if e.Rule.Name == "" {
		return ""
	}
	return " by rule " + e.Rule.Name
}

// because is why something failed, in words that follow it.
func (e *storyEvent) because() string {
	switch words := ReasonWords(e.Reason); {
	case e.Reason == "":
		return ""
	case words == "":
		return ": " + e.Reason
	default:
		return ": " + words + " (" + e.Reason + ")"
	}
}

// credential is what was proved.
func (e *storyEvent) credential() string {
	own := e.Unmapped.Postern
	if c := e.Certificate; c != nil {
		s := "certificate serial " + c.Serial + " of the authority " + c.Issuer + ", for " + own.KeyAlgorithm + " " + own.Key
		if c.Expires != 0 {
			s += ", valid until " + time.UnixMilli(c.Expires).UTC().Format(time.DateTime) + " UTC"
		}
		if c.Subject != "" {
			s += ", key ID " + c.Subject
		}
		return s
	}
	if own.Key != "" {
		return strings.TrimSpace(own.KeyAlgorithm + " " + own.Key)
	}
	return e.Actor.Session.Credential
}
