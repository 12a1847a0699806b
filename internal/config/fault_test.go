package config

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"testing"
)

func TestHintsOfAllErrorsStandOnce(t *testing.T) {
	a := Errors{{File: "a", Msg: "m", Hint: "do this"}, {File: "a", Msg: "n"}, {File: "a", Msg: "o", Hint: "do this"}}
	b := Errors{{File: "b", Msg: "m", Hint: "do that"}}
	got := HintFor(errors.Join(fmt.Errorf("reload: %w", a), b, nil))
	if want := []string{"hint: do this", "hint: do that"}; !reflect.DeepEqual(got, want) {
		t.Errorf("hints %q, want %q", got, want)
	}
	if got := HintFor(fmt.Errorf("read: %w", fs.ErrPermission)); len(got) != 1 {
		t.Errorf("hints for a file that may not be read: %q", got)
	}
	if got := HintFor(errors.New("something else")); got != nil {
		t.Errorf("hints for an unknown error: %q", got)
	}
	if got := HintFor(nil); got != nil {
		t.Errorf("hints for no error: %q", got)
	}
}

func TestTheNearestNameIsNamedWhereOneIsNear(t *testing.T) {
	names := []string{"endpoints", "sources", "listen", "dir"}
	for written, want := range map[string]string{
		"endponts":  "; did you mean endpoints?",
		"endpiont":  "; did you mean endpoints?",
		"source":    "; did you mean sources?",
		"lisetn":    "; did you mean listen?",
		"dri":       "; did you mean dir?",
		"":          "",
		"x":         "",
		"something": "",
	} {
		if got := nearest(written, names); got != want {
			t.Errorf("%s: %q, want %q", written, got, want)
		}
	}
}

func TestFaultsOfTheFileItselfComeFirst(t *testing.T) {
	got := ordered("main", []Fault{{File: "a", Line: 1}, {File: "main", Line: 9}, {File: "main", Line: 2, Column: 3}, {File: "main", Line: 2, Column: 1}, {File: "main"}})
	want := Errors{{File: "main"}, {File: "main", Line: 2, Column: 1}, {File: "main", Line: 2, Column: 3}, {File: "main", Line: 9}, {File: "a", Line: 1}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestAFileFullOfFaultsIsReportedInPart(t *testing.T) {
	var faults []Fault
	for line := range 5000 {
		faults = append(faults, Fault{File: "main", Line: line + 1, Path: "a", Msg: "m", Hint: "h"})
	}
	got := ordered("main", faults)
	if len(got) != maxFaults+1 {
		t.Fatalf("%d faults", len(got))
	}
	if want := "main:201: and 4800 more faults from here on"; got[maxFaults].String() != want {
		t.Errorf("the last is %q, want %q", got[maxFaults], want)
	}
}
