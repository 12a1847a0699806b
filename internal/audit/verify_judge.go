package audit

import (
	"golang.org/x/mod/sumdb/tlog"
)

// spot is where something was found.
type spot struct {
	file  string
	line  int64 // 0 = the file as a whole
	index int64 // -1 = of no event
}

// judging follows two trees, that of the lines and that of the leaves in
// hashes.bin, which are one until a line does not hash to its leaf. The next
// checkpoint then tells which of the two was changed.
type judging struct {
	lines, leaves tree
	forked        bool   // leaves is another tree than lines
	differ        []spot // of the lines that made it so, at most maxFindings
	short         bool   // hashes.bin has ended; leaves is of no use
	shortAt       int64  // index of the first event without a hash there
	lost          bool   // no tree gives the signed root, or an event is nowhere: roots say nothing any more
	good          int64  // size of the newest checkpoint that the tree gave
	nodes         bool   // since that, a node of hashes.bin was found to be wrong
}

// addLine adds the event at a spot, with the hash of its line.
func (v *verifier) addLine(leaf tlog.Hash, at spot) error {
	v.next++
	if v.lost {
		return nil
	}
	known, err := v.readHash(v.lines.size)
	if err != nil {
		return err
	}
	if !v.short && known != leaf {
		if !v.forked {
			v.leaves, v.forked = v.lines.clone(), true
		}
		if len(v.differ) < maxFindings {
			v.differ = append(v.differ, at)
		}
	}
	return v.grow(leaf, known)
}

// addHash adds the event of the next index by its hash in hashes.bin: its line
// is gone or can't be read. It returns false when it is not there either.
func (v *verifier) addHash() (bool, error) {
	if v.lost {
		return false, nil
	}
	known, err := v.readHash(v.lines.size)
	if err != nil {
		return false, err
	}
	if v.short {
		v.lost = true
		return false, nil
	}
	v.next++
	return true, v.grow(known, known)
}

// readHash reads the next hash that the event index brought to hashes.bin.
func (v *verifier) readHash(index int64) (tlog.Hash, error) {
	h, ok, err := v.hashes.read()
	if err == nil && !ok && !v.short {
		v.short, v.shortAt = true, index
	}
	return h, err
}

// grow adds a leaf to both trees, compares the nodes that it completes with
// hashes.bin, and judges the checkpoints of the size that is reached.
func (v *verifier) grow(leaf, known tlog.Hash) error {
	v.lines.add(leaf)
	if v.forked && !v.short {
		v.leaves.add(known)
	}
	for level := 1; level < len(v.lines.fresh) && !v.short; level++ {
		h, err := v.readHash(v.lines.size - 1)
		if err != nil {
			return err
		}
		ours := h == v.lines.fresh[level]
		theirs := v.forked && h == v.leaves.fresh[level]
		if !v.short && !ours && !theirs {
			v.nodes = true
			v.wrongAt(KindHashes, spot{hashesFile, 0, v.lines.size - 1}, "hash %d, a node over this event and some before it, is not that of the hashes under it", v.hashes.next-1)
		}
	}
	return v.judgeReached()
}

// judgeReached judges all checkpoints of the size that the tree has now.
func (v *verifier) judgeReached() error {
	for v.upcoming != nil && v.upcoming.Size == v.lines.size {
		v.judge(*v.upcoming)
		v.keys.vouch(*v.upcoming)
		if err := v.nextCheckpoint(); err != nil {
			return err
		}
	}
	for len(v.marks) > 0 && v.marks[0].Size == v.lines.size {
		v.judge(v.marks[0])
		v.marks = v.marks[1:]
	}
	return nil
}

// judge compares the trees with a checkpoint of their size.
func (v *verifier) judge(c mark) {
	switch {
	case v.lost:
	case v.lines.root() == c.Root:
		v.blameHashes()
		v.good, v.nodes = c.Size, false
	case v.forked && !v.short && v.leaves.root() == c.Root:
		v.blame(KindEvent, "the line is not what was signed")
		v.lines, v.good, v.nodes = v.leaves.clone(), c.Size, false
	case c.kind == KindAnchor:
		v.wrongAt(KindAnchor, spot{c.file, 0, v.good}, "the log has another root at %d events than this anchor: its history was written anew", c.Size)
	case c.Size == v.good:
		v.wrongAt(KindCheckpoint, spot{c.file, c.line, -1}, "it has another root for %d events than the checkpoint before it", c.Size)
	default:
		v.blameRange(c)
	}
}

// blame says what the lines are that don't hash to their leaves, now that it is
// known, and makes the trees one again.
func (v *verifier) blame(kind, what string) {
	for _, at := range v.differ {
		v.wrongAt(kind, at, "%s", what)
	}
	v.differ, v.forked = nil, false
}

func (v *verifier) blameHashes() {
	for _, at := range v.differ {
		v.wrongAt(KindHashes, spot{hashesFile, 0, at.index}, "its hash of this event is not that of the line, and the line (%s:%d) is what was signed", at.file, at.line)
	}
	v.differ, v.forked = nil, false
}

// blameRange is for a root that neither tree gives.
func (v *verifier) blameRange(c mark) {
	v.lost = true
	switch {
	case len(v.differ) > 0:
		v.blame(KindEvent, "neither the line nor its hash in hashes.bin is what was signed")
		return
	case v.nodes: // that was said
		return
	}
	v.wrongAt(KindEvent, spot{c.file, c.line, v.good}, "the events before %d don't give the root that was signed, but those before %d do: one of them was changed, and hashes.bin with it", c.Size, v.good)
}
