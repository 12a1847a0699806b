package main

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"postern/internal/config"
)

func TestChangedKeysAreNamed(t *testing.T) {
	old := &config.Config{Listen: ":22", Drain: config.Drain{Settle: time.Second}}
	now := &config.Config{Listen: ":2222", Drain: config.Drain{Settle: time.Minute}}
	now.Admission.Endpoints = []string{"vpce-1"}
	now.Admission.Sources = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	live, restart := changedKeys(old, now)
	if want := []string{"admission.endpoints", "admission.sources", "drain"}; !slices.Equal(live, want) {
		t.Errorf("live = %v, want %v", live, want)
	}
	if want := []string{"listen"}; !slices.Equal(restart, want) {
		t.Errorf("restart = %v, want %v", restart, want)
	}
	if live, restart := changedKeys(now, now); live != nil || restart != nil {
		t.Errorf("nothing changed, and %v, %v", live, restart)
	}
}

// Fields of config.Config that no reload compares: what names the file and tells
// of it.
var notCompared = []string{"Path", "Version", "Warnings"}

func TestEverySettingIsCompared(t *testing.T) {
	base := &config.Config{}
	typ := reflect.TypeFor[config.Config]()
	for i := range typ.NumField() {
		if slices.Contains(notCompared, typ.Field(i).Name) {
			continue
		}
		changed := &config.Config{}
		f := reflect.ValueOf(changed).Elem().Field(i)
		if !fill(f) {
			t.Fatalf("%s: do not know how to change it", typ.Field(i).Name)
		}
		if live, restart := changedKeys(base, changed); len(live)+len(restart) == 0 {
			t.Errorf("a change of %s is not noticed", typ.Field(i).Name)
		}
	}
}

// fill sets v, or the first field in it that can be set, to something.
func fill(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return fill(v.Elem())
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint64:
		v.SetUint(1)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && fill(v.Field(i)) {
				return true
			}
		}
		return false
	default:
		return false
	}
	return true
}
