package audit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// kind is a log and what is to be said of it: 0 fine, 1 wrong, 2 undecided.
type kind struct {
	log    *crafted
	status int
	what   string // part of the first finding, or where there is none, of the first remark
}

// kindsOfLogs are logs as a daemon could have left them, right and wrong.
func kindsOfLogs(t testing.TB) map[string]kind {
	t.Helper()
	logs := map[string]kind{
		"everything once":        {story(t), 0, ""},
		"the end not signed yet": {unsignedEnd(t), 0, "2 events at the end not signed yet"},
	}
	vouched, first, firstKey := rekeyed(t)
	vouched.sign(t, vouched.signer, first)
	logs["another key, named by the first"] = kind{vouched, 0, ""}
	vouched.key, vouched.vkey = firstKey, strings.TrimSpace(strings.SplitAfter(vouched.read(t, keysFile), "\n")[0])
	vouched.event(t, DaemonStop, "", "")
	vouched.sign(t)
	late := craft(t)
	late.event(t, DaemonStart, "", "")
	late.sign(t)
	for range 302 {
		late.event(t, ChannelOpen, "s1", "")
	}
	logs["the end should have been signed"] = kind{late, 1, "the last 302 events, of 5m1s, are not signed"}
	made := func(name string, status int, what string, write func(c *crafted)) {
		c := craft(t)
		write(c)
		c.sign(t)
		logs[name] = kind{c, status, what}
	}
	made("nothing", 0, "", func(c *crafted) {})
	made("a session without an end, after a stop", 1, "it has no end", func(c *crafted) {
		c.event(t, DaemonStart, "", "")
		c.event(t, ConnOpen, "s1", "")
		c.event(t, DaemonStop, "", "")
	})
	made("a program without an end, after a stop", 1, "it has no end", func(c *crafted) {
		c.event(t, DaemonStart, "", "")
		c.event(t, ProcStart, "s1", `,"unmapped":{"postern":{"channel":1}}`)
		c.event(t, ProcStart, "s1", `,"unmapped":{"postern":{"channel":2}}`)
		c.event(t, ProcEnd, "s1", `,"unmapped":{"postern":{"channel":2}}`)
		c.event(t, DaemonStop, "", "")
	})
	made("a target without an end, after a stop", 1, "it has no end", func(c *crafted) {
		c.event(t, TargetOpen, "s1", `,"unmapped":{"postern":{"channel":"a"}}`)
		c.event(t, DaemonStop, "", "")
	})
	made("two of one channel, one ended", 1, "it has no end", func(c *crafted) {
		for _, code := range []Code{ProcStart, ProcStart, ProcEnd, DaemonStop} {
			c.event(t, code, "s1", "")
		}
	})
	made("a session without an end, after a crash", 0, "the daemon had ended without daemon.stop, which cut off 1 session, 0 connections to targets", func(c *crafted) {
		c.event(t, DaemonStart, "", "")
		c.event(t, ConnOpen, "s1", "")
		c.event(t, DaemonStart, "", "")
	})
	made("a session that goes on", 0, "", func(c *crafted) {
		c.event(t, DaemonStart, "", "")
		c.event(t, ConnOpen, "s1", "")
	})
	made("what was refused has no end", 0, "", func(c *crafted) {
		c.event(t, ProcStart, "s1", `,"status_id":2`)
		c.event(t, TargetOpen, "s1", `,"status_id":2`)
		c.event(t, DaemonStop, "", "")
	})
	made("a target was dialled, and that is all", 0, "", func(c *crafted) {
		c.event(t, TargetDial, "s1", "")
		c.event(t, DaemonStop, "", "")
	})
	made("time ran back", 1, "it was written 59m59s before event 1", func(c *crafted) {
		c.event(t, DaemonStart, "", "")
		c.event(t, DaemonHeartbeat, "", "")
		c.clock -= 3600e3
		for range 10 {
			c.event(t, ChannelOpen, "s1", "")
		}
	})
	made("time ran back, and an event says so", 0, "", func(c *crafted) {
		c.event(t, DaemonStart, "", "")
		c.clock -= 3600e3
		c.event(t, ChannelOpen, "s1", "")
		c.event(t, ClockStep, "", "")
		for range 10 {
			c.event(t, ChannelOpen, "s1", "")
		}
	})
	made("the log's own events were written before those that waited", 0, "", func(c *crafted) {
		c.event(t, DaemonStart, "", "")
		c.clock += 60e3
		c.event(t, LogFailure, "", "")
		c.clock -= 55e3
		for range 10 {
			c.event(t, ChannelOpen, "s1", "")
		}
	})
	made("silence", 0, "no event for 11m0s before it", func(c *crafted) {
		c.event(t, DaemonStart, "", "")
		c.clock += 659e3
		c.event(t, DaemonHeartbeat, "", "")
	})
	made("silence of a daemon that does not run", 0, "", func(c *crafted) {
		c.event(t, DaemonStart, "", "")
		c.event(t, DaemonStop, "", "")
		c.clock += 86400e3
		c.event(t, DaemonStart, "", "")
	})
	made("no logged_time", 1, "it has no metadata.logged_time", func(c *crafted) {
		c.line(t, `{"metadata":{"sequence":0}}`)
	})
	made("signed and no JSON", 1, "it is not JSON", func(c *crafted) {
		c.line(t, `{"metadata":{"sequence":0,"logged_time":1}`)
	})
	made("signed and out of order", 1, "event 1, and event 0 belongs there", func(c *crafted) {
		c.line(t, `{"metadata":{"sequence":1,"logged_time":1}}`)
	})
	made("what a failed write left", 0, "what a failed write left", func(c *crafted) {
		c.event(t, DaemonStart, "", "")
		c.append(t, c.segment, `{"metadata":{"sequence":1}}`+"\n")
		c.segment = ""
		c.event(t, LogFailure, "", "")
	})
	made("what nobody explains behind a segment", 1, "more follows behind event 0", func(c *crafted) {
		c.event(t, DaemonStart, "", "")
		c.append(t, c.segment, `{"metadata":{"sequence":1}}`+"\n")
		c.segment = ""
		c.event(t, LogRotate, "", "")
	})
	made("a recording that was never begun", 1, "the recording is missing", func(c *crafted) {
		c.event(t, RecordingStart, "s1", `,"file":{"path":"/r/2026/11/24/rec-none.prec"}`)
	})
	made("a recording that leads elsewhere", 1, "the recording is missing", func(c *crafted) {
		c.event(t, RecordingStart, "s1", `,"file":{"path":"/r/../../etc/passwd"}`)
	})
	made("a recording that failed before it had a file", 0, "", func(c *crafted) {
		c.event(t, RecordingFailed, "s1", "")
	})
	made("a recording that runs", 0, "", func(c *crafted) {
		c.recorded(t, RecordingStart, "")
		c.recorded(t, RecordingChunk, "one")
		write(t, filepath.Join(c.recordings, craftedRecording), "one and more")
	})
	made("a recording that grew after its end", 1, "the recording has 8 bytes, and had 3 at its end", func(c *crafted) {
		c.recorded(t, RecordingEnd, "one")
		write(t, filepath.Join(c.recordings, craftedRecording), "one more")
	})
	made("a recording that broke off, and was found", 0, "", func(c *crafted) {
		c.recorded(t, RecordingChunk, "one")
		c.recorded(t, RecordingFailed, "onetwo")
	})
	made("a recording that was edited after it was found broken off", 1, "between bytes 3 and 6", func(c *crafted) {
		c.recorded(t, RecordingChunk, "one")
		c.recorded(t, RecordingFailed, "onetwo")
		write(t, filepath.Join(c.recordings, craftedRecording), "onetw0")
	})
	made("a recording that grew after it was found broken off", 1, "the recording has 6 bytes, and had 3 at its end", func(c *crafted) {
		c.recorded(t, RecordingFailed, "one")
		write(t, filepath.Join(c.recordings, craftedRecording), "onetwo")
	})
	made("a recording that was cut", 1, "the recording has 2 bytes, and had 3 at event 0", func(c *crafted) {
		c.recorded(t, RecordingChunk, "one")
		write(t, filepath.Join(c.recordings, craftedRecording), "on")
	})
	made("a recording that was edited in its second chunk", 1, "between bytes 3 and 6", func(c *crafted) {
		c.recorded(t, RecordingChunk, "one")
		c.recorded(t, RecordingEnd, "onetwo")
		write(t, filepath.Join(c.recordings, craftedRecording), "onetw0")
	})
	made("segments that were removed in order", 0, "the 2 events before it are not here any more", func(c *crafted) {
		c.event(t, DaemonStart, "", "")
		c.event(t, DaemonHeartbeat, "", "")
		old := c.segment
		c.segment = ""
		c.event(t, LogDelete, "", `,"unmapped":{"postern":{"first_index":0,"records":2}}`)
		if err := os.Remove(filepath.Join(c.dir, old)); err != nil {
			t.Fatal(err)
		}
	})
	made("text that is not English", 0, "", func(c *crafted) {
		c.event(t, DaemonStart, "", `,"message":"Grüße \u001b[2J \"quoted\" \\ \ud83d\ude00 ≠","n":[1,-2.5e+3,true,null,{}]`)
	})
	made("bytes that are not UTF-8", 1, "it is not UTF-8", func(c *crafted) {
		c.event(t, DaemonStart, "", `,"message":"`+"\xff"+`"`)
	})
	return logs
}

func write(t testing.TB, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o640); err != nil {
		t.Fatal(err)
	}
}

func TestEveryKindOfLogIsJudgedAsItShouldBe(t *testing.T) {
	for name, k := range kindsOfLogs(t) {
		r, err := Verify(t.Context(), k.log.options())
		if got := status(r, err); got != k.status {
			t.Errorf("%s: %d (%v), want %d\n%s", name, got, err, k.status, findings(r))
		}
		said := append(append([]Finding{}, r.Findings...), r.Remarks...)
		switch {
		case k.what == "" && len(said) > 0:
			t.Errorf("%s: found\n%s", name, findings(r))
		case k.what != "" && (len(said) == 0 || !strings.Contains(said[0].What, k.what)):
			t.Errorf("%s: want %q, found\n%s", name, k.what, findings(r))
		}
	}
}
