package audit

import (
	"fmt"
	"time"
)

// By how much the clock may go against the time that passed until that is an
// event: back, because then times in the log are not in its order, and
// forward further than a slow machine explains.
const (
	stepBack    = time.Second
	stepForward = time.Minute
)

// clock compares the system's clock with the time that passes.
type clock struct {
	wall   time.Time
	passed time.Time // has a monotonic reading
}

// step returns by how much the clock was set since the last call, if that is
// an event.
func (c *clock) step(wall time.Time) (step time.Duration, before time.Time, found bool) {
	now := time.Now()
	expected := c.wall.Add(now.Sub(c.passed))
	c.wall, c.passed = wall, now
	step = wall.Sub(expected)
	return step, expected, step < -stepBack || step > stepForward
}

func clockStepped(step time.Duration, before, after time.Time, when string) Event {
	direction := "forward"
	if step < 0 {
		direction = "back"
	}
	return Event{
		Code: ClockStep, Message: fmt.Sprintf("the clock went %s by %v", direction, step.Abs().Round(time.Millisecond)), Alert: true, Detail: when,
		Extra: map[string]any{"step_ms": step.Milliseconds(), "before": before.UTC().Format(time.RFC3339Nano), "after": after.UTC().Format(time.RFC3339Nano)},
	}
}
