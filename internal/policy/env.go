package policy

import (
	"slices"
	"strings"
)

// PassesEnv reports whether the environment variable may be passed on to the
// target (RFC 4254 §6.4): LANG and LC_*, which name a language, and what the
// rule lists. A Decision that denies passes none.
func (d Decision) PassesEnv(name string) bool {
	if !d.Allow || !isEnvName(name) {
		return false
	}
	if name == "LANG" || strings.HasPrefix(name, "LC_") {
		return true
	}
	return slices.ContainsFunc(d.Env, func(glob string) bool { return matchGlob(glob, name) })
}

// isEnvName reports whether name is one by IEEE Std 1003.1, 3.216, with small
// letters too, since such names are in use.
func isEnvName(name string) bool {
	if name == "" || '0' <= name[0] && name[0] <= '9' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}
