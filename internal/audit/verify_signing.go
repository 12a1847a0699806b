package audit

import (
	"bytes"
	"time"
)

// signedSoFar is what checkpoints.log said so far.
type signedSoFar struct {
	upcoming *mark  // the next checkpoint that the tree must give; nil = there is none
	newest   mark   // the last good one
	last     []byte // its text
	before   []byte // text of that before it

	unsignedFrom int64 // metadata.logged_time of the first event behind all checkpoints; 0 = none
}

// unsignedLong is for how long the daemon may go on without a checkpoint, of
// which it makes one every ten seconds.
const unsignedLong = 5 * time.Minute

// nextCheckpoint reads on to the next checkpoint that is signed, of this log and
// not smaller than the one before it.
func (v *verifier) nextCheckpoint() error {
	v.upcoming = nil
	for v.signed != nil {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		line := v.signed.line
		entry, whole, err := v.signed.next()
		if err != nil || len(entry) == 0 {
			return err
		}
		c := mark{kind: KindCheckpoint, file: checkpointsFile, line: line}
		if !whole && len(entry) < maxSigned {
			v.remark(KindUnfinished, checkpointsFile, -1, "its last %d bytes are the beginning of a checkpoint", len(entry))
			return nil
		}
		at := spot{checkpointsFile, line, -1}
		signed := bytes.TrimSuffix(entry, []byte("\n"))
		if c.Checkpoint, c.sigs, err = v.keys.open(signed); err != nil {
			v.wrongAt(KindCheckpoint, at, "%v", err)
			v.signed.resume(entry, v.report.Origin)
			continue
		}
		if v.follows(c) {
			v.before, v.last = v.last, signed
			v.newest, v.upcoming = c, &c
			v.report.Checkpoints++
			return nil
		}
	}
	return nil
}

// follows checks a checkpoint against that before it.
func (v *verifier) follows(c mark) bool {
	at := spot{c.file, c.line, -1}
	switch {
	case v.report.Origin == "":
		v.report.Origin = c.Origin
	case c.Origin != v.report.Origin:
		v.wrongAt(KindCheckpoint, at, "it is of another log, %s", c.Origin)
		return false
	}
	if c.Size < v.newest.Size {
		v.wrongAt(KindCheckpoint, at, "it is of %d events and stands behind one of %d", c.Size, v.newest.Size)
		return false
	}
	return true
}

// readRest reads what there is besides the lines, and compares how far
// everything goes.
func (v *verifier) readRest() error {
	end := v.next // of the lines
	for {
		if more, err := v.addHash(); err != nil || !more {
			if err != nil {
				return err
			}
			break
		}
	}
	hashed := v.next
	for v.upcoming != nil {
		v.keys.vouch(*v.upcoming)
		if err := v.nextCheckpoint(); err != nil {
			return err
		}
	}
	if at := v.keys.unvouched; at != nil {
		v.wrongAt(KindCheckpoint, *at, "from here on the key %s signs, which the key to verify with did not vouch for", v.keys.by)
	}
	v.compareNewest()
	v.compareEnds(end, hashed)
	v.blame(KindHashes, "the line or its hash in hashes.bin was changed; no checkpoint is beyond it, so which one can't be told")
	return nil
}

// compareNewest compares the file checkpoint with the end of checkpoints.log.
func (v *verifier) compareNewest() {
	if v.beside != nil && v.beside.Size > v.newest.Size {
		v.newest = *v.beside
	}
	switch {
	case v.signed == nil || v.newestText != nil && bytes.Equal(v.newestText, v.last):
	case v.newestText == nil && v.before != nil:
		v.wrong(KindCheckpoint, checkpointFile, "it is missing")
	case v.newestText == nil:
		v.remark(KindUnfinished, checkpointFile, -1, "it is not there yet")
	case v.before != nil && bytes.Equal(v.newestText, v.before):
		v.remark(KindUnfinished, checkpointFile, -1, "it is the last but one of checkpoints.log: it is being replaced, or a crash came in between")
	default:
		v.wrong(KindCheckpoint, checkpointFile, "it is not the last of checkpoints.log")
	}
}

// compareEnds compares where the lines end with where hashes.bin, the
// checkpoints and the anchors do.
func (v *verifier) compareEnds(end, hashed int64) {
	covered := v.newest.Size
	v.report.Covered, v.report.Root = covered, v.newest.Root.String()
	at := v.end
	at.index = end
	switch {
	case v.undecided != nil:
	case v.opts.Partial && hashed > end && hashed >= covered:
		v.remark(KindRetention, at.file, end, "%s behind it are not here; their hashes stand for them", countOf(hashed-end, "event"))
	case covered > end:
		v.wrongAt(KindMissing, at, "it ends before event %d, and %d events were signed: %d are missing", end, covered, covered-end)
	case hashed > end:
		v.wrongAt(KindMissing, at, "it ends before event %d, and hashes.bin has the hashes of %d more", end, hashed-end)
	case end > covered:
		v.uncovered(at, end-covered)
	}
	for _, m := range v.marks {
		if m.Size <= end || m.kind != KindAnchor { // what is to be said of it was said
			continue
		}
		v.wrongAt(KindAnchor, spot{m.file, 0, end}, "this anchor is of %d events, and the log has %d: it was set back, or its end removed", m.Size, end)
	}
	if v.report.First > v.history.deleted && !v.opts.Partial {
		v.wrongAt(KindMissing, spot{index: 0}, "the segments before event %d are gone, and no %s says that they were removed", v.report.First, LogDelete)
	}
	switch {
	case v.hashes == nil && covered == 0, v.undecided != nil: // that was said
	case v.hashes == nil:
		v.wrong(KindHashes, hashesFile, "it is missing")
	case v.short && v.shortAt < covered:
		v.wrongAt(KindHashes, spot{hashesFile, 0, v.shortAt}, "it has no hash of event %d", v.shortAt)
	case v.hashes.torn > 0:
		v.remark(KindUnfinished, hashesFile, -1, "its last %d bytes are no whole hash", v.hashes.torn)
	}
}

// uncovered is for the last n events, which are not signed.
func (v *verifier) uncovered(at spot, n int64) {
	span := v.report.To.Sub(time.UnixMilli(v.unsignedFrom))
	if v.unsignedFrom > 0 && span > unsignedLong {
		v.wrongAt(KindUncovered, spot{at.file, 0, v.newest.Size}, "the last %s, of %v, are not signed: checkpoints were removed, or could not be made", countOf(n, "event"), span.Round(time.Second))
		return
	}
	v.remark(KindUncovered, at.file, v.newest.Size, "%s at the end not signed yet", countOf(n, "event"))
}
