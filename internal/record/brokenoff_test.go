package record

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"testing"
)

// abandoned leaves a recording as a killed process does: not locked, no end.
func abandoned(t *testing.T, s *Store) *Writer {
	t.Helper()
	w := create(t, s, Events{})
	write(t, w, Stdout, []byte("the last words"))
	w.flushDue()
	if err := w.file.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

// unrun returns a store whose Run does not touch writers that were abandoned.
func unrun(t *testing.T) *Store {
	t.Helper()
	s, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reported returns the IDs that BrokenOff reports, and its error.
func reported(t *testing.T, s *Store, answer error) (ids []string, err error) {
	t.Helper()
	err = s.BrokenOff(t.Context(), func(e Entry, c Chunk) error {
		ids = append(ids, e.ID)
		if whole, err := Prefixes(bytes.NewReader(fileBytes(t, e.Path))); err != nil || whole[0].SHA256 != c.SHA256 || whole[0].Size != c.Size {
			t.Errorf("reported with %+v; the file is %+v, %v", c, whole, err)
		}
		return answer
	})
	return ids, err
}

func TestARecordingThatBrokeOffIsReportedOnce(t *testing.T) {
	s := unrun(t)
	finished(t, create(t, s, Events{}))
	running := create(t, s, Events{})
	lost := abandoned(t, s)
	refusal := errors.New("the log takes nothing")
	if ids, err := reported(t, s, refusal); !errors.Is(err, refusal) || !slices.Equal(ids, []string{lost.ID()}) {
		t.Errorf("reported %v, %v; want %s and the refusal", ids, err, lost.ID())
	}
	if ids, err := reported(t, s, nil); err != nil || !slices.Equal(ids, []string{lost.ID()}) {
		t.Errorf("reported %v, %v after a refusal; want %s", ids, err, lost.ID())
	}
	if ids, err := reported(t, s, nil); err != nil || len(ids) > 0 {
		t.Errorf("reported again: %v, %v", ids, err)
	}
	write(t, running, Stdout, []byte("goes on"))
	finished(t, running)
}

func TestWhatARecordingThatBrokeOffHoldsIsKnown(t *testing.T) {
	s := unrun(t)
	abandoned(t, s)
	err := s.BrokenOff(t.Context(), func(e Entry, c Chunk) error {
		if e.Header.Identity != "alice" || e.Ended || e.Err != nil || c.Records != 1 || e.Records != 1 {
			t.Errorf("reported %+v with %+v", e, c)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestARecordingWithAnEndIsNotReportedWhateverItsMode(t *testing.T) {
	s := unrun(t)
	w := create(t, s, Events{})
	finished(t, w)
	if err := os.Chmod(w.Path(), writtenMode); err != nil { // as a power cut may leave it
		t.Fatal(err)
	}
	if ids, err := reported(t, s, nil); err != nil || len(ids) > 0 {
		t.Errorf("reported %v, %v", ids, err)
	}
	if info, err := os.Stat(w.Path()); err != nil || info.Mode() != settledMode {
		t.Errorf("mode %v, %v; want %v", info.Mode(), err, os.FileMode(settledMode))
	}
}

func TestARecordingThatWasNeverBegunIsNotReported(t *testing.T) {
	s := unrun(t)
	w := abandoned(t, s)
	if err := os.Chmod(w.Path(), begunMode); err != nil {
		t.Fatal(err)
	}
	if ids, err := reported(t, s, nil); err != nil || len(ids) > 0 {
		t.Errorf("reported %v, %v", ids, err)
	}
}

func TestARecordingWithoutAHeaderIsReportedWithWhy(t *testing.T) {
	s := unrun(t)
	w := abandoned(t, s)
	if err := os.Truncate(w.Path(), 20); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := s.BrokenOff(t.Context(), func(e Entry, c Chunk) error {
		if n++; e.Err == nil || e.ID != w.ID() || c.Size != 20 {
			t.Errorf("reported %+v with %+v", e, c)
		}
		return nil
	})
	if err != nil || n != 1 {
		t.Errorf("%d reports, %v", n, err)
	}
}

func TestBrokenOffEndsWithItsContext(t *testing.T) {
	s := unrun(t)
	abandoned(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.BrokenOff(ctx, func(Entry, Chunk) error { t.Error("reported"); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v; want that it was cancelled", err)
	}
}
