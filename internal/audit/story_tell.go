package audit

import (
	"strconv"
	"time"
)

// tell is what the event says happened; "" = nothing that a reader needs. What
// a client or a target wrote comes last.
func (s *Story) tell(e *storyEvent) string {
	switch e.code() {
	case ConnOpen, ConnRefused, HandshakeFailed, AuthSuccess, AuthFailure, ConnClose:
		return s.tellConnection(e)
	case ChannelOpen, ChannelDenied, ProcStart, ProcEnd:
		return s.tellChannel(e)
	case TargetDial, TargetOpen, TargetFailed, TargetClose:
		return s.tellTarget(e)
	case ForwardOpen, ForwardRefused, ForwardFailed, ForwardClose, ForwardListen:
		return s.tellForward(e)
	case FileOp:
		return s.tellFile(e)
	case RecordingStart, RecordingChunk, RecordingEnd, RecordingFailed:
		return s.tellRecording(e)
	case Traffic:
		if !s.All {
			return ""
		}
		return s.moved("bytes since the last report: ", e.Traffic)
	}
	return e.Message + detail(e)
}

func detail(e *storyEvent) string {
	if e.Detail == "" {
		return ""
	}
	return ": " + e.Detail
}

func (s *Story) moved(before string, b storyBytes) string {
	return before + s.Size(b.In) + " in, " + s.Size(b.Out) + " out"
}

func (s *Story) tellConnection(e *storyEvent) string {
	user := e.who().Name
	switch e.code() {
	case ConnOpen:
		text := "connected from " + orElse(e.client(), "an unknown address")
		if e.endpoint() != "" {
			text += " through endpoint " + e.endpoint()
		}
		return text
	case ConnRefused:
		return "was not let in" + e.because()
	case HandshakeFailed:
		return "did not get through the SSH handshake" + e.because()
	case AuthSuccess:
		return "authenticated as " + orElse(e.who().UID, "unknown") + " with " + orElse(e.credential(), "an unknown key") + "; user name: " + user
	case AuthFailure:
		return "was refused as a user" + e.because() + "; key " + orElse(e.Unmapped.Postern.Key, "unknown") + "; user name: " + user
	}
	return "the session ended" + e.because() + "; " + s.moved("", e.Cumulative)
}

func (s *Story) tellChannel(e *storyEvent) string {
	switch e.code() {
	case ChannelOpen:
		if e.Unmapped.Postern.ChannelType == "session" && !s.All {
			return ""
		}
		return "opened" + e.onChannel() + e.by() + ": " + e.Message
	case ChannelDenied:
		return "was refused" + e.onChannel() + e.because() + ": " + e.Message
	case ProcStart:
		return s.tellStart(e)
	}
	return s.tellEnd(e)
}

func (s *Story) tellStart(e *storyEvent) string {
	command := e.Process.Command
	where := " at " + e.destination()
	if e.failed() {
		return "was refused to run" + where + e.onChannel() + e.because() + ": " + orElse(command, e.Process.Name)
	}
	where += e.by() + e.onChannel()
	switch e.Process.Name {
	case "shell":
		if terminal := e.Unmapped.Postern.Terminal; terminal != "" {
			return "began a shell" + where + "; terminal: " + terminal
		}
		return "began a shell without a terminal" + where
	case "subsystem":
		return "began the subsystem" + where + ": " + command
	}
	return "ran" + where + ": " + orElse(command, e.Process.Name)
}

func (s *Story) tellEnd(e *storyEvent) string {
	own := e.Unmapped.Postern
	text := orElse(e.Process.Name, "it") + " ended"
	switch {
	case own.Signal != "":
		text += " by signal " + own.Signal
	case e.Reason == "":
		text += " with exit status " + strconv.Itoa(e.ExitCode)
	}
	if e.Process.Created != 0 && e.Millis >= e.Process.Created {
		text += " after " + s.Lasted(time.Duration(e.Millis-e.Process.Created)*time.Millisecond)
	}
	return text + s.moved(", ", storyBytes{In: own.BytesIn, Out: own.BytesOut}) + e.onChannel() + e.because()
}

func (s *Story) tellTarget(e *storyEvent) string {
	switch e.code() {
	case TargetDial:
		if !s.All {
			return "" // target.open and target.failed say it
		}
		return "the gate goes to log in for it at " + e.destination() + e.by()
	case TargetOpen:
		text := "the gate logged in for it at " + e.destination() + e.by()
		if key := e.Unmapped.Postern.HostKey; key != "" {
			text += "; host key " + key
		}
		return text
	case TargetFailed:
		return "the gate could not log in for it at " + e.destination() + e.because()
	}
	text := "the connection to " + e.destination() + " ended"
	if e.Duration > 0 {
		text += " after " + s.Lasted(time.Duration(e.Duration)*time.Millisecond)
	}
	return text + e.because()
}

func (s *Story) tellForward(e *storyEvent) string {
	inspected := e.Unmapped.Postern.Inspected
	switch e.code() {
	case ForwardOpen:
		if inspected {
			return "asked to go on to " + e.destination() + e.by() + ", inspected" + e.onChannel()
		}
		return "opened a tunnel to " + e.destination() + e.by() + e.onChannel()
	case ForwardRefused:
		return "was refused a tunnel" + e.onChannel() + e.because() + "; to " + orElse(e.destination(), "nowhere")
	case ForwardFailed:
		return "a tunnel could not be opened" + e.onChannel() + e.because() + "; to " + orElse(e.destination(), "nowhere")
	case ForwardListen:
		if e.failed() {
			return "was refused to listen" + e.because() + "; at " + e.destination()
		}
		return "has the gate listen for it at " + e.destination() + e.by()
	}
	if inspected && !s.All {
		return "" // target.close says it
	}
	text := "the tunnel to " + e.destination() + " ended"
	if took := e.Traffic.Timespan.Duration; took > 0 {
		text += " after " + s.Lasted(time.Duration(took)*time.Millisecond)
	}
	return text + s.moved(", ", e.Traffic) + e.onChannel() + e.because()
}

func (s *Story) tellRecording(e *storyEvent) string {
	id := e.Unmapped.Postern.Recording
	switch e.code() {
	case RecordingStart:
		return "is recorded as " + id
	case RecordingFailed:
		return "recording " + id + " failed" + e.because() + detail(e)
	case RecordingChunk:
		if !s.All {
			return ""
		}
	}
	size := int64(0)
	if e.File.Size != nil {
		size = *e.File.Size
	}
	if e.code() == RecordingChunk {
		return "recording " + id + " goes on: " + s.Size(size)
	}
	return "recording " + id + " is closed: " + s.Size(size)
}
