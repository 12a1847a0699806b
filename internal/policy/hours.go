package policy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones exist on a host that has no tzdata package
)

// Hours is a weekly time window in a zone, made by NewHours. It is immutable.
// The zero value and nil hold no time.
type Hours struct {
	days     [7]bool // by time.Weekday: the days on which a window begins
	from, to int     // minutes of the day; to < from: the window ends on the next day
	zone     *time.Location
}

var weekdays = [7]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // by time.Weekday

// NewHours makes a window of wall-clock time. Days are three-letter names
// (mon) or ranges of them (mon-fri); an empty list is an error, not every day.
// From and to are HH:MM; to may be 24:00, and does not belong to the window.
// Where to is before from, the window runs past midnight and belongs to the
// day on which it begins. Zone is an IANA name, or UTC.
//
// Wall-clock time means that on the day when clocks go forward a window from
// 02:30 begins at the first minute that exists after it, and that on the day
// when they go back the repeated hour counts both times.
func NewHours(days []string, from, to, zone string) (*Hours, error) {
	h := &Hours{}
	if err := h.setDays(days); err != nil {
		return nil, err
	}
	var err error
	if h.from, err = parseClock(from); err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	if h.to, err = parseClock(to); err != nil {
		return nil, fmt.Errorf("to: %w", err)
	}
	if h.from == h.to || h.from == minutesOfDay {
		return nil, fmt.Errorf("%s to %s holds no time: the whole day is 00:00 to 24:00", from, to)
	}
	if h.zone, err = loadZone(zone); err != nil {
		return nil, err
	}
	return h, nil
}

const minutesOfDay = 24 * 60

// Contains reports whether t is in the window.
func (h *Hours) Contains(t time.Time) bool {
	if h == nil || h.zone == nil {
		return false
	}
	local := t.In(h.zone)
	minute := local.Hour()*60 + local.Minute()
	today := local.Weekday()
	if h.from < h.to {
		return h.days[today] && h.from <= minute && minute < h.to
	}
	yesterday := (today + 6) % 7
	return h.days[today] && minute >= h.from || h.days[yesterday] && minute < h.to
}

// String returns the window as "mon-fri 08:00-18:00 Europe/Berlin".
func (h *Hours) String() string {
	if h == nil || h.zone == nil {
		return "no hours"
	}
	return fmt.Sprintf("%s %s %s", h.dayString(), h.clockString(), h.zone)
}

func (h *Hours) clockString() string {
	return fmt.Sprintf("%02d:%02d-%02d:%02d", h.from/60, h.from%60, h.to/60, h.to%60)
}

// dayString writes runs of days as ranges, from Monday on.
func (h *Hours) dayString() string {
	var words []string
	for i := 0; i < 7; i++ {
		first := i
		for i < 7 && h.days[(i+1)%7] {
			i++
		}
		if i-first == 1 {
			words = append(words, weekdays[(first+1)%7])
		}
		if i-first > 1 {
			words = append(words, weekdays[(first+1)%7]+"-"+weekdays[i%7])
		}
	}
	return strings.Join(words, ",")
}

func (h *Hours) setDays(days []string) error {
	if len(days) == 0 {
		return errors.New("days: none is named: write them all for every day, such as [mon-sun]")
	}
	for _, s := range days {
		first, last, isRange := strings.Cut(s, "-")
		if !isRange {
			last = first
		}
		a, b := slices.Index(weekdays[:], first), slices.Index(weekdays[:], last)
		if a < 0 || b < 0 {
			return fmt.Errorf("days: %q is not one of mon, tue, wed, thu, fri, sat, sun or a range such as mon-fri", s)
		}
		if err := h.addDays(a, b); err != nil {
			return err
		}
	}
	return nil
}

func (h *Hours) addDays(first, last int) error {
	for d := first; ; d = (d + 1) % 7 {
		if h.days[d] {
			return fmt.Errorf("days: %s is named twice", weekdays[d])
		}
		h.days[d] = true
		if d == last {
			return nil
		}
	}
}

// parseClock reads HH:MM from 00:00 to 24:00 as minutes of the day.
func parseClock(s string) (int, error) {
	hour, err1 := strconv.ParseUint(s[:min(len(s), 2)], 10, 8)
	minute, err2 := strconv.ParseUint(s[min(len(s), 3):], 10, 8)
	n := int(hour*60 + minute)
	if err1 != nil || err2 != nil || len(s) != 5 || s[2] != ':' || minute > 59 || n > minutesOfDay {
		return 0, fmt.Errorf("%q is not a time from 00:00 to 24:00", s)
	}
	return n, nil
}

// loadZone refuses "" and "Local", which time.LoadLocation reads as UTC and as
// whatever the host is set to.
func loadZone(zone string) (*time.Location, error) {
	if zone == "" || zone == "Local" {
		return nil, errors.New("zone: none is named: write UTC or a name such as Europe/Berlin")
	}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("zone: %q is not a time zone such as Europe/Berlin", zone)
	}
	return loc, nil
}
