package policy

import (
	"strings"
	"testing"
	"time"
)

func mustHours(t *testing.T, days, from, to, zone string) *Hours {
	t.Helper()
	h, err := NewHours(strings.Split(days, ","), from, to, zone)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Berlin's clocks went from 02:00 to 03:00 on 2026-03-29 at 01:00 UTC and from
// 03:00 to 02:00 on 2026-10-25 at 01:00 UTC.
func TestHoursFollowTheClockOnTheWall(t *testing.T) {
	for _, c := range []struct {
		days, from, to string
		utc            string
		want           bool
	}{
		// The hour that does not exist: 02:30 is skipped, the window begins at 03:00.
		{"sun", "02:30", "03:30", "2026-03-29T00:59:59Z", false},
		{"sun", "02:30", "03:30", "2026-03-29T01:00:00Z", true},
		{"sun", "02:30", "03:30", "2026-03-29T01:29:59Z", true},
		{"sun", "02:30", "03:30", "2026-03-29T01:30:00Z", false},
		{"sun", "02:00", "03:00", "2026-03-29T01:00:00Z", false},
		// The hour that comes twice counts twice.
		{"sun", "02:30", "02:45", "2026-10-25T00:35:00Z", true},
		{"sun", "02:30", "02:45", "2026-10-25T00:50:00Z", false},
		{"sun", "02:30", "02:45", "2026-10-25T01:35:00Z", true},
		{"sun", "02:30", "02:45", "2026-10-25T01:50:00Z", false},
		// Across midnight into the days of change, which have 23 and 25 hours.
		{"sat", "22:00", "06:00", "2026-03-28T21:00:00Z", true},
		{"sat", "22:00", "06:00", "2026-03-29T03:59:59Z", true},
		{"sat", "22:00", "06:00", "2026-03-29T04:00:00Z", false},
		{"sat", "22:00", "06:00", "2026-10-24T20:00:00Z", true},
		{"sat", "22:00", "06:00", "2026-10-25T04:59:59Z", true},
		{"sat", "22:00", "06:00", "2026-10-25T05:00:00Z", false},
		// A whole day is every hour of it.
		{"sun", "00:00", "24:00", "2026-10-24T21:59:59Z", false},
		{"sun", "00:00", "24:00", "2026-10-24T22:00:00Z", true},
		{"sun", "00:00", "24:00", "2026-10-25T22:59:59Z", true},
		{"sun", "00:00", "24:00", "2026-10-25T23:00:00Z", false},
		// Across midnight from Saturday to Sunday and from Sunday to Monday.
		{"sun", "23:00", "01:00", "2026-11-22T23:30:00Z", true},
		{"sun", "23:00", "01:00", "2026-11-21T23:30:00Z", false},
		{"mon", "23:00", "00:00", "2026-11-23T22:59:59Z", true},
		{"mon", "23:00", "00:00", "2026-11-23T23:00:00Z", false},
	} {
		h := mustHours(t, c.days, c.from, c.to, "Europe/Berlin")
		at, err := time.Parse(time.RFC3339, c.utc)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.Contains(at); got != c.want {
			t.Errorf("%s holds %s: %v, want %v", h, c.utc, got, c.want)
		}
	}
}

func TestHoursPrintAsTheyAreRead(t *testing.T) {
	for days, want := range map[string]string{
		"mon,tue,wed,thu,fri": "mon-fri",
		"mon-fri":             "mon-fri",
		"sun,sat":             "sat-sun",
		"sun":                 "sun",
		"fri-mon":             "mon,fri-sun",
		"mon,wed,fri":         "mon,wed,fri",
		"sun-sat":             "mon-sun",
	} {
		h := mustHours(t, days, "08:00", "24:00", "Europe/Berlin")
		if got := h.String(); got != want+" 08:00-24:00 Europe/Berlin" {
			t.Errorf("%s prints as %s", days, got)
		}
		if again, err := parseHours(strings.Fields(h.String())); err != nil || again.days != h.days || again.from != h.from || again.to != h.to || again.zone.String() != h.zone.String() {
			t.Errorf("%s reads back as %v (%v)", h, again, err)
		}
	}
}

func TestHoursThatHoldNoTimeAreRefused(t *testing.T) {
	for _, c := range []struct{ days, from, to, zone, want string }{
		{"", "08:00", "18:00", "UTC", `"" is not one of mon`},
		{"Mon", "08:00", "18:00", "UTC", "is not one of mon"},
		{"monday", "08:00", "18:00", "UTC", "is not one of mon"},
		{"mon-", "08:00", "18:00", "UTC", "is not one of mon"},
		{"mon,mon", "08:00", "18:00", "UTC", "mon is named twice"},
		{"mon-fri,wed", "08:00", "18:00", "UTC", "wed is named twice"},
		{"mon", "08:00", "08:00", "UTC", "holds no time"},
		{"mon", "24:00", "08:00", "UTC", "holds no time"},
		{"mon", "8:00", "18:00", "UTC", `from: "8:00" is not a time`},
		{"mon", "08:00", "24:01", "UTC", `to: "24:01" is not a time`},
		{"mon", "08:00", "25:00", "UTC", "is not a time"},
		{"mon", "08:60", "18:00", "UTC", "is not a time"},
		{"mon", "08.00", "18:00", "UTC", "is not a time"},
		{"mon", "08:000", "18:00", "UTC", "is not a time"},
		{"mon", "-8:00", "18:00", "UTC", "is not a time"},
		{"mon", "", "18:00", "UTC", "is not a time"},
		{"mon", "08:00", "", "UTC", "is not a time"},
		{"mon", "08:00", "18:00", "", "zone: none is named"},
		{"mon", "08:00", "18:00", "Local", "zone: none is named"},
		{"mon", "08:00", "18:00", "Europe/Nowhere", "is not a time zone"},
		{"mon", "08:00", "18:00", "../../etc/passwd", "is not a time zone"},
	} {
		h, err := NewHours(strings.Split(c.days, ","), c.from, c.to, c.zone)
		if h != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, error %v", c, h, err)
		}
	}
	if h, err := NewHours(nil, "08:00", "18:00", "UTC"); h != nil || err == nil {
		t.Errorf("no days: %v, %v", h, err)
	}
}

func TestZeroHoursHoldNoTime(t *testing.T) {
	for _, h := range []*Hours{nil, {}, {days: [7]bool{true, true, true, true, true, true, true}, to: minutesOfDay}} {
		if h.Contains(time.Now()) || h.String() != "no hours" {
			t.Errorf("%#v: %s", h, h)
		}
	}
}
