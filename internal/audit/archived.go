package audit

import "time"

// Segment is a closed segment: its file does not change any more.
type Segment struct {
	First, End int64 // indexes of its first event and of the one after its last
	Path       string
	Size       int64 // bytes
	Closed     time.Time
}

// Segments lists the closed segments of the log in dir that a checkpoint covers,
// oldest first. The log may be open.
func Segments(dir string) ([]Segment, error) { panic("stub") }

// HashRange is where in hashes.bin what the events of First <= index < End have
// added begins, and how many bytes it has.
func (s Segment) HashRange() (offset, size int64) { panic("stub") }

// Origin is what the log in dir calls itself, by its newest checkpoint, and how
// many events that covers. Nothing is verified. It is "" if dir has no log.
func Origin(dir string) (origin string, size int64, err error) { panic("stub") }

// CheckAnchor is what Options.Anchors are for, for a checkpoint that could not
// be had when the log was opened. Its error wraps ErrRolledBack.
func (l *Log) CheckAnchor(signed []byte) error { panic("stub") }

// WriteCheckpoints makes checkpoints.log and checkpoint in dir of anchors in the
// order of their size, so that dir, with segments, hashes.bin and audit.vkey
// beside them, is a log that Verify and the others read.
func WriteCheckpoints(dir string, anchors [][]byte) error { panic("stub") }
