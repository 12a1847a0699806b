package sshgate

import (
	"strings"
	"testing"
)

func TestDestinations(t *testing.T) {
	for user, want := range map[string]destination{
		"hadoop@10.0.2.17":           {"hadoop", "10.0.2.17", 22},
		"hadoop@10.0.2.17:2222":      {"hadoop", "10.0.2.17", 2222},
		"hadoop@10.0.2.17#2222":      {"hadoop", "10.0.2.17", 2222},
		"a@b@db.internal":            {"a@b", "db.internal", 22},
		"hadoop@DB.internal:65535":   {"hadoop", "DB.internal", 65535},
		"login@[fd00::7]:22":         {"login", "fd00::7", 22},
		"login@[fd00::7]#2222":       {"login", "fd00::7", 2222},
		"login@[fd00::7]":            {"login", "fd00::7", 22},
		"login@fd00::7":              {"login", "fd00::7", 22},
		"login@fd00::7#2222":         {"login", "fd00::7", 2222},
		"DOMAIN\\user@win.internal":  {"DOMAIN\\user", "win.internal", 22},
		"hadoop@ip-10-0-2-17.ec2:22": {"hadoop", "ip-10-0-2-17.ec2", 22},
	} {
		if got, ok, err := parseDestination(user); got != want || !ok || err != nil {
			t.Errorf("%s: %+v, %v, %v", user, got, ok, err)
		}
	}
	for _, user := range []string{
		"@10.0.2.17", "hadoop@", "hadoop@:22", "hadoop@10.0.2.17:", "hadoop@10.0.2.17:0", "hadoop@10.0.2.17:65536", "hadoop@10.0.2.17:ssh",
		"hadoop@10.0.2.17:+22", "hadoop@0x7f000001", "hadoop@[10.0.2.17", "hadoop@a b", "hadoop@x#1:2", "hadoop@[fd00::7]22", "hadoop@fe80::1%eth0",
	} {
		if got, ok, err := parseDestination(user); !ok || err == nil {
			t.Errorf("%s: %+v, %v, %v; want an error", user, got, ok, err)
		}
	}
	if _, ok, err := parseDestination("vendor"); ok || err != nil {
		t.Errorf("a plain name: %v, %v", ok, err)
	}
}

func FuzzDestination(f *testing.F) {
	f.Add("hadoop@10.0.2.17:22")
	f.Add("a@[fd00::7]#1")
	f.Fuzz(func(t *testing.T, user string) {
		d, ok, err := parseDestination(user)
		if ok != strings.Contains(user, "@") {
			t.Errorf("%q: ok is %v", user, ok)
		}
		if !ok || err != nil {
			return
		}
		if again, _, err := parseDestination(d.String()); err != nil || again != d {
			t.Errorf("%q is %+v, which reads back as %+v, %v", user, d, again, err)
		}
	})
}
