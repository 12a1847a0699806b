package main

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"postern/internal/sshgate"
)

const statusInterval = 5 * time.Second

// systemd tells the service manager how the gate is doing (sd_notify(3)).
// Without one it does nothing.
type systemd struct{ log *zap.Logger }

func (s systemd) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("notify systemd", zap.Error(err))
	}
}

// watch sends the status line, and the watchdog's ping as long as healthy says
// nil, until ctx ends. A gate that hangs is thus killed and started again.
func (s systemd) watch(ctx context.Context, healthy func(context.Context) error, status func() string) error {
	interval := statusInterval
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("watchdog", zap.Error(err))
	}
	if watchdog > 0 {
		interval = min(interval, watchdog/3)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if now := status(); now != last {
			s.notify("STATUS=" + now)
			last = now
		}
		if watchdog > 0 {
			s.ping(ctx, interval, healthy)
		}
	}
}

func (s systemd) ping(ctx context.Context, patience time.Duration, healthy func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := healthy(ctx); err != nil {
		s.log.Error("watchdog: not pinged", zap.Error(err))
		return
	}
	s.notify(daemon.SdNotifyWatchdog)
}

// sessionStatus is the status line: "serving; 37 sessions" or
// "draining; 4 sessions, oldest 3h12m".
func sessionStatus(draining bool, sessions []sshgate.Session, now time.Time) string {
	if !draining {
		return "serving; " + plural(len(sessions), "session")
	}
	line := "draining; " + plural(len(sessions), "session")
	if len(sessions) == 0 {
		return line
	}
	oldest := now
	for _, s := range sessions {
		if s.Since.Before(oldest) {
			oldest = s.Since
		}
	}
	return fmt.Sprintf("%s, oldest %s", line, readable(now.Sub(oldest)))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// readable is a duration as one reads it: 12s, 4m, 3h12m, 2d4h.
func readable(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}
