package policy

import "testing"

func TestOnlyLanguagesAndWhatTheRuleListsArePassedOn(t *testing.T) {
	d := Decision{Allow: true, Env: []string{"TZ", "GIT_*", "*_PROXY"}}
	for name, want := range map[string]bool{
		"LANG": true, "LC_ALL": true, "LC_": true, "TZ": true, "GIT_AUTHOR_NAME": true, "GIT_": true, "http_PROXY": true,
		"LANGUAGE": false, "lang": false, "TZX": false, "XGIT_A": false, "PATH": false, "LD_PRELOAD": false, "": false,
		"GIT_A=B": false, "GIT_A\nLD_PRELOAD": false, "LC_A\x00": false, "LC_A B": false, "1_PROXY": false, "GIT_é": false,
	} {
		if got := d.PassesEnv(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
	if (Decision{Env: []string{"TZ"}}).PassesEnv("TZ") || (Decision{}).PassesEnv("LANG") {
		t.Error("a decision that denies passes variables on")
	}
	if (Decision{Allow: true}).PassesEnv("TZ") {
		t.Error("a rule without env passes TZ on")
	}
}
