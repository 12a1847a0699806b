package audit

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// told is an event as encoding/json reads it.
type told struct {
	Time         int64
	ClassUID     int `json:"class_uid"`
	Status       string
	StatusCode   string                `json:"status_code"`
	IsAlert      bool                  `json:"is_alert"`
	FirewallRule struct{ Name string } `json:"firewall_rule"`
	Metadata     struct {
		EventCode      string `json:"event_code"`
		CorrelationUID string `json:"correlation_uid"`
	}
	Actor     struct{ User toldUser }
	User      toldUser
	Src       toldPlace `json:"src_endpoint"`
	Dst       toldPlace `json:"dst_endpoint"`
	Device    toldPlace
	Process   struct{ User toldUser }
	Resources []struct{ UID string }
	Unmapped  struct {
		Postern struct{ Login, Client, Endpoint, Requested string }
	}

	anything any    // all of it
	line     string // with its newline
}

type toldUser struct {
	Name, UID string
	TypeID    int `json:"type_id"`
}

type toldPlace struct {
	Hostname, IP, Name, UID string
	Service                 string `json:"svc_name"`
	Port                    int
}

// isMeant is a query in the plainest words.
func isMeant(q Query, e *told) bool {
	who := e.Actor.User
	if who == (toldUser{}) {
		who = e.User
	}
	identity := who.UID
	if who.TypeID == 2 {
		identity = ""
	}
	when := time.UnixMilli(e.Time)
	own := e.Unmapped.Postern
	sessions := []string{}
	if e.Metadata.CorrelationUID != "" {
		sessions = append(sessions, e.Metadata.CorrelationUID)
	}
	if len(e.Resources) > 0 && e.Resources[0].UID != "" {
		sessions = append(sessions, e.Resources[0].UID)
	}
	var beginnings []string
	for _, s := range q.Sessions {
		beginnings = append(beginnings, s+"*")
	}
	clients := addresses(e.Src, "")
	if e.Src.IP == "" {
		clients = []string{own.Client}
		if a, err := netip.ParseAddrPort(own.Client); err == nil {
			clients = append(clients, a.Addr().String())
		}
	}
	return oneOf(q.Codes, e.Metadata.EventCode) && oneOf(q.Identities, identity) && oneOf(q.Users, who.Name) &&
		oneOf(q.Targets, targets(e)...) && oneOf(q.Logins, first(own.Login, e.Process.User.Name)) &&
		oneOf(q.Endpoints, first(e.Src.UID, own.Endpoint)) && oneOf(q.Clients, clients...) && oneOf(beginnings, sessions...) &&
		oneOf(q.Reasons, e.StatusCode) && oneOf(q.Rules, e.FirewallRule.Name) &&
		(q.Since.IsZero() || !when.Before(q.Since)) && (q.Until.IsZero() || when.Before(q.Until)) &&
		(!q.Failed || e.Status == "Failure") && (!q.Alerts || e.IsAlert) &&
		(q.Text == "" || hasText(e.anything, strings.ToValidUTF8(q.Text, "\ufffd")))
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func targets(e *told) []string {
	requested := e.Unmapped.Postern.Requested
	if e.ClassUID == 1007 {
		if e.Device.Name == "postern" {
			return []string{requested}
		}
		return addresses(e.Device, requested)
	}
	if e.Dst.Service == "ssh" {
		return []string{requested}
	}
	return addresses(e.Dst, requested)
}

func addresses(p toldPlace, also string) []string {
	var all []string
	if also != "" {
		all = append(all, also)
	}
	for _, host := range []string{p.Hostname, p.Name, p.IP} {
		if host == "" {
			continue
		}
		all = append(all, host)
		if p.Port != 0 {
			all = append(all, netJoin(host, p.Port))
		}
	}
	if p.Hostname+p.Name+p.IP == "" {
		all = append(all, "")
	}
	return all
}

func netJoin(host string, port int) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(port)
}

func oneOf(patterns []string, values ...string) bool {
	for _, p := range patterns {
		for _, v := range values {
			if like(p, v) {
				return true
			}
		}
	}
	return len(patterns) == 0
}

func like(pattern, s string) bool {
	if prefix, err := netip.ParsePrefix(pattern); err == nil {
		a, err := netip.ParseAddr(s)
		return err == nil && prefix.Contains(a)
	}
	before, after, wild := strings.Cut(pattern, "*")
	if !wild || !strings.HasPrefix(s, before) {
		return pattern == s
	}
	for i := len(before); i <= len(s); i++ {
		if like(after, s[i:]) {
			return true
		}
	}
	return false
}

func hasText(v any, text string) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, text)
	case []any:
		return slices.ContainsFunc(v, func(v any) bool { return hasText(v, text) })
	case map[string]any:
		for _, v := range v {
			if hasText(v, text) {
				return true
			}
		}
	}
	return false
}
