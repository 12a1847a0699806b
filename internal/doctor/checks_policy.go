package doctor

import (
	"encoding/json"
	"strings"
)

// words is a string, or a list of them, as policies have both.
type words []string

func (w *words) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*w = words{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(w))
}

type statement struct {
	Effect                             string
	Action, Resource                   words
	NotAction, NotResource             words
	Principal, NotPrincipal, Condition json.RawMessage
}

// permits says whether a policy allows an action on a resource to everybody.
// known is false where that hangs on more than actions and resources.
func permits(policy, action, resource string) (allowed, known bool) {
	if policy == "" {
		return true, true // the default of an endpoint
	}
	var document struct{ Statement json.RawMessage }
	if json.Unmarshal([]byte(policy), &document) != nil {
		return false, false
	}
	var all []statement
	if json.Unmarshal(document.Statement, &all) != nil {
		var one statement
		if json.Unmarshal(document.Statement, &one) != nil {
			return false, false
		}
		all = []statement{one}
	}
	known = true
	for _, s := range all {
		applies, sure := s.applies(action, resource)
		switch {
		case !applies:
		case !sure:
			known = false
		case s.Effect == "Deny":
			return false, true
		default:
			allowed = true
		}
	}
	return allowed, known
}

// applies says whether a statement may be about it, and whether it surely is.
func (s statement) applies(action, resource string) (applies, sure bool) {
	plain := len(s.NotAction) == 0 && len(s.NotResource) == 0 && s.NotPrincipal == nil && s.Condition == nil && everyone(s.Principal)
	if len(s.Action) > 0 && !anyMatch(s.Action, action, true) || len(s.Resource) > 0 && !anyMatch(s.Resource, resource, false) {
		return false, true
	}
	return true, plain
}

func everyone(principal json.RawMessage) bool {
	p := strings.Join(strings.Fields(string(principal)), "")
	return p == "" || p == `"*"` || p == `{"AWS":"*"}` || p == `{"AWS":["*"]}`
}

func anyMatch(patterns []string, s string, fold bool) bool {
	for _, p := range patterns {
		if fold {
			p, s = strings.ToLower(p), strings.ToLower(s)
		}
		if matches(p, s) {
			return true
		}
	}
	return false
}

// matches compares with a pattern of * and ?. Where it fails it goes back to the
// last star only, so that no pattern takes long.
func matches(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p, i = p+1, i+1
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
