package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// ErrUndecided is what Verify's error wraps when the log can't be judged:
// there is no key or no checkpoint, or a file can't be read.
var ErrUndecided = errors.New("the audit log could not be verified")

// VerifyOptions say what to verify, and against what. Fields are set once.
type VerifyOptions struct {
	Dir string
	// Keys that checkpoints must be signed with. Without any those of Dir count,
	// which whoever rewrote the log may have replaced.
	Keys []note.Verifier
	// Anchors is a directory with checkpoints that were stored off the host, one
	// a file; "" = none.
	Anchors string
	// Partial says that Dir holds some segments only, as they were brought back
	// from an archive. Their hashes stand for those before and behind them; where
	// the hashes of events before them are missing, nothing can be decided.
	Partial bool
	// Recordings is their directory; "" = they are not looked at.
	Recordings string
	// Copied says that Recordings is a copy that takes recordings when they have
	// ended: one that the log does not end may be missing.
	Copied bool
	// Progress, if set, is called now and then with the bytes of the segments
	// that have been read, and with how many there are.
	Progress func(done, total int64)
}

// Finding is one thing that is wrong, or worth a remark.
type Finding struct {
	Kind  string `json:"kind"`            // one of the Kind constants
	File  string `json:"file"`            // in the log's directory, the anchors' or the recordings'
	Line  int64  `json:"line,omitempty"`  // in File, from 1; 0 = not of one line
	Index int64  `json:"index"`           // of the event; -1 = of none
	What  string `json:"what"`            // a sentence without its end
	Event string `json:"event,omitempty"` // metadata.event_code
}

// Kinds of findings.
const (
	KindEvent      = "event"      // a line is not what was signed, or no event
	KindMissing    = "missing"    // events that were signed are not there
	KindCheckpoint = "checkpoint" // a checkpoint is not signed, or contradicts another
	KindHashes     = "hashes"     // hashes.bin is not what the lines give
	KindAnchor     = "anchor"     // a checkpoint stored elsewhere is not of this log, or newer
	KindRecording  = "recording"  // a recording is not what its events say
	KindUnclosed   = "unclosed"   // something that began has no end, and no crash explains it
	KindClock      = "clock"      // time ran backwards, and no event says so
	KindSilence    = "silence"    // no event for longer than heartbeats allow
	KindCrash      = "crash"      // the daemon ended without a last event
	KindUncovered  = "uncovered"  // not signed yet
	KindRetention  = "retention"  // older segments are gone
	KindUnfinished = "unfinished" // the end of a file is being written, or a crash tore it
	KindKey        = "key"        // what the judgement rests on
	KindEpoch      = "epoch"      // an older epoch lies aside, and is to be verified on its own
)

// Report is what Verify found.
type Report struct {
	Dir    string `json:"dir"`
	Origin string `json:"origin"`
	// Events before First are gone; Events is how many lines were read, the
	// first Covered indexes are signed.
	First       int64     `json:"first"`
	Events      int64     `json:"events"`
	Covered     int64     `json:"covered"`
	Root        string    `json:"root"` // of the newest checkpoint, base64
	Checkpoints int64     `json:"checkpoints"`
	Anchors     int       `json:"anchors"`
	Recordings  int       `json:"recordings"` // that were compared with their events
	Running     int       `json:"running"`    // sessions and programs without an end yet
	From        time.Time `json:"from,omitzero"`
	To          time.Time `json:"to,omitzero"`
	Findings    []Finding `json:"findings"` // what is wrong, the first bad event first
	Remarks     []Finding `json:"remarks"`  // what a reviewer should know
	More        int       `json:"more,omitempty"`
}

// Fine reports whether nothing is wrong.
func (r *Report) Fine() bool { return len(r.Findings) == 0 }

// maxFindings bounds the findings, and the remarks, of a report; Report.More
// counts those left out.
const maxFindings = 200

func (r *Report) wrong(f Finding)  { r.Findings = r.add(r.Findings, f) }
func (r *Report) remark(f Finding) { r.Remarks = r.add(r.Remarks, f) }

func (r *Report) add(list []Finding, f Finding) []Finding {
	if len(list) >= maxFindings {
		r.More++
		return list
	}
	return append(list, f)
}

// Verify reads a log and whatever o names besides, and reports all that is
// wrong. The log may be open. The error, if any, wraps ErrUndecided; the report
// is there all the same and tells what was found until then.
func Verify(ctx context.Context, o VerifyOptions) (*Report, error) {
	r := &Report{Dir: o.Dir, Findings: []Finding{}, Remarks: []Finding{}}
	v := &verifier{ctx: ctx, opts: o, report: r}
	err := v.run()
	slices.SortStableFunc(r.Findings, byIndex)
	if err != nil {
		return r, fmt.Errorf("%w: %w", ErrUndecided, err)
	}
	return r, nil
}

// byIndex puts what is of an event first, in the order of events.
func byIndex(a, b Finding) int {
	switch {
	case a.Index == b.Index:
		return 0
	case a.Index < 0 || b.Index >= 0 && a.Index > b.Index:
		return 1
	}
	return -1
}

// verifier is one run of Verify. The order in which it opens files is the
// reverse of that in which the daemon writes them, so that a log that grows
// meanwhile has nothing that is newer than what it is compared with.
type verifier struct {
	ctx    context.Context
	opts   VerifyOptions
	report *Report

	keys       keyring
	newestText []byte // of the file checkpoint
	beside     *mark  // the same, if it is one
	signed     *checkpointStream
	marks      []mark // other checkpoints that the tree must give, by size
	hashes     *hashStream
	segments   []stored
	bytesRead  int64
	bytesAll   int64

	signedSoFar       // what checkpoints.log said so far
	judging           // the tree, and how it compares with hashes.bin and checkpoints
	next        int64 // index of the event that comes next
	end         spot  // behind the last line
	undecided   error // why, in spite of all, nothing can be said
	history     history
}

func (v *verifier) run() error {
	if err := v.open(); err != nil {
		return err
	}
	defer v.close()
	if err := v.readSegments(); err != nil {
		return err
	}
	if err := v.readRest(); err != nil {
		return err
	}
	v.history.finish()
	if v.opts.Recordings != "" {
		return errors.Join(v.undecided, v.checkRecordings())
	}
	return v.undecided
}

func (v *verifier) open() error {
	if err := v.findKeys(); err != nil {
		return err
	}
	if err := v.readAnchors(); err != nil {
		return err
	}
	if err := v.openCheckpoints(); err != nil {
		return err
	}
	var err error
	if v.hashes, err = openHashes(v.opts.Dir); err != nil {
		return err
	}
	if v.segments, err = listSegments(v.opts.Dir); err != nil {
		return err
	}
	for _, s := range v.segments {
		if info, err := os.Stat(s.path); err == nil {
			v.bytesAll += info.Size()
		}
	}
	v.history = history{report: v.report}
	if err := v.findEpochs(); err != nil {
		return err
	}
	return v.anythingSigned()
}

// findEpochs tells of the epochs that were put aside: whatever is wrong with
// them was known when that was done, and the log that goes on is another.
func (v *verifier) findEpochs() error {
	entries, err := os.ReadDir(v.opts.Dir)
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), epochPrefix) {
			v.remark(KindEpoch, e.Name(), -1, "it holds an epoch of the log that was ended; its folder is verified on its own")
		}
	}
	return err
}

// anythingSigned tells a log that was never signed from one whose signatures
// were removed.
func (v *verifier) anythingSigned() error {
	if len(v.segments) == 0 && v.hashes == nil && v.signed == nil && len(v.marks) == 0 {
		return fmt.Errorf("%s holds no audit log: %w", v.opts.Dir, fs.ErrNotExist)
	}
	if v.signed != nil || v.newestText != nil {
		return nil
	}
	return fmt.Errorf("%s has no checkpoint: nothing in it is signed", v.opts.Dir)
}

func (v *verifier) close() {
	v.hashes.close()
	v.signed.close()
}

func (v *verifier) progress(n int) {
	before := v.bytesRead
	v.bytesRead += int64(n)
	if v.opts.Progress != nil && before>>20 != v.bytesRead>>20 {
		v.opts.Progress(v.bytesRead, v.bytesAll)
	}
}

// wrongAt reports what is wrong with the line of index.
func (v *verifier) wrongAt(kind string, at spot, format string, args ...any) {
	v.report.wrong(Finding{Kind: kind, File: at.file, Line: at.line, Index: at.index, What: fmt.Sprintf(format, args...)})
}

// wrong reports what is wrong with a file as a whole.
func (v *verifier) wrong(kind, file string, format string, args ...any) {
	v.wrongAt(kind, spot{file: file, index: -1}, format, args...)
}

func (v *verifier) remark(kind, file string, index int64, format string, args ...any) {
	v.report.remark(Finding{Kind: kind, File: file, Index: index, What: fmt.Sprintf(format, args...)})
}
