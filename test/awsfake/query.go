package awsfake

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Account serves an account: ec2, elasticloadbalancing, autoscaling, ssm,
// secretsmanager, sts and s3 answer from it.
func (s *Server) Account(a *Account) {
	for service, answer := range map[string]func(call) (int, []byte){
		"ec2": a.ec2, "elasticloadbalancing": a.elbv2, "autoscaling": a.autoscaling,
		"ssm": a.ssm, "secretsmanager": a.secretsmanager, "sts": a.sts, "s3": a.s3,
	} {
		s.Serve(service, func(r Request) (int, []byte) {
			a.mu.Lock()
			defer a.mu.Unlock()
			form, err := url.ParseQuery(string(r.Body))
			if err != nil {
				form = url.Values{}
			}
			return answer(call{Request: r, Values: form})
		})
	}
}

// call is a request with its form, which JSON services leave empty.
type call struct {
	Request
	url.Values
}

func (c call) fail(status int, code, format string, args ...any) (int, []byte) {
	message := fmt.Sprintf(format, args...)
	if c.HTTP.Header.Get("X-Amz-Target") == "" {
		message = escape(message)
	}
	return status, ErrorBody(c.Request, code, message)
}

// denied answers a call that the account refuses, in the words of its service.
func (a *Account) denied(c call, action string) (int, []byte, bool) {
	if !slices.Contains(a.Denied, action) {
		return 0, nil, false
	}
	code, status := "AccessDenied", http.StatusForbidden
	switch {
	case c.Service == "ec2":
		code = "UnauthorizedOperation"
	case c.HTTP.Header.Get("X-Amz-Target") != "":
		code, status = "AccessDeniedException", http.StatusBadRequest
	}
	_, body := c.fail(status, code, "User: arn:aws:sts::%s:assumed-role/gate/%s is not authorized to perform: %s because no identity-based policy allows the %s action",
		a.ID, a.Self, action, action)
	return status, body, true
}

// all are the values of NAME.1, NAME.2 ... or, of the other protocol,
// NAME.member.1 ...
func (c call) all(name string) []string {
	var out []string
	for i := 1; ; i++ {
		n := strconv.Itoa(i)
		switch {
		case c.Has(name + "." + n):
			out = append(out, c.Get(name+"."+n))
		case c.Has(name + ".member." + n):
			out = append(out, c.Get(name+".member."+n))
		default:
			return out
		}
	}
}

// filters are the call's, by name.
func (c call) filters() map[string][]string {
	out := map[string][]string{}
	for i := 1; ; i++ {
		prefix := fmt.Sprintf("Filter.%d.", i)
		if !c.Has(prefix + "Name") {
			return out
		}
		out[c.Get(prefix+"Name")] = c.all(prefix + "Value")
	}
}

// kind is how items of one sort are asked for.
type kind[T any] struct {
	set     string // the element that holds the items
	ids     string // the parameter that names items; "" = none
	missing string // the error's code where there is no such item
	id      func(T) string
	filters map[string]func(T) []string
}

// choose returns the items that the call asks for, of all there are; filters
// are for nothing where unfiltered is set.
func (k kind[T]) choose(c call, items []T, unfiltered bool) (chosen []T, code, fault string) {
	chosen = slices.Clone(items)
	if k.ids != "" {
		if wanted := c.all(k.ids); len(wanted) > 0 {
			chosen = slices.DeleteFunc(chosen, func(t T) bool { return !slices.Contains(wanted, k.id(t)) })
			if len(chosen) < len(wanted) {
				return nil, k.missing, fmt.Sprintf("one of %s does not exist", strings.Join(wanted, ", "))
			}
			if c.Has("MaxResults") {
				return nil, "InvalidParameterCombination", "The parameter MaxResults cannot be used with the parameter " + k.ids
			}
		}
	}
	for name, wanted := range c.filters() {
		values, ok := k.filters[name]
		if !ok {
			return nil, "InvalidParameterValue", fmt.Sprintf("The filter '%s' is invalid", name)
		}
		chosen = slices.DeleteFunc(chosen, func(t T) bool {
			return !unfiltered && !slices.ContainsFunc(values(t), func(v string) bool { return slices.Contains(wanted, v) })
		})
	}
	return chosen, "", ""
}

// page cuts what follows token out of items, most at a time, and returns the
// token of the rest.
func page[T any](items []T, token string, most int) ([]T, string, bool) {
	start := 0
	if token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return nil, "", false
		}
		if start, err = strconv.Atoi(string(b)); err != nil || start < 0 || start > len(items) {
			return nil, "", false
		}
	}
	items = items[start:]
	if most <= 0 || len(items) <= most {
		return items, "", true
	}
	return items[:most], base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(start + most))), true
}

// most is the size of a page: what the call asks for, or less.
func (a *Account) most(asked string) int {
	n, err := strconv.Atoi(asked)
	switch {
	case err != nil || n <= 0:
		return a.Page
	case a.Page > 0:
		return min(n, a.Page)
	}
	return n
}

// element writes v as an element; the types of accounts can all be written.
func element(name string, v any) string {
	var b bytes.Buffer
	if err := xml.NewEncoder(&b).EncodeElement(v, xml.StartElement{Name: xml.Name{Local: name}}); err != nil {
		panic(err)
	}
	return b.String()
}

func elements[T any](name string, items []T) string {
	var b strings.Builder
	for _, i := range items {
		b.WriteString(element(name, i))
	}
	return b.String()
}

// attributes are the members of an answer about attributes.
func attributes(m map[string]string) string {
	type attribute struct{ Key, Value string }
	var list []attribute
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, attribute{key, m[key]})
	}
	return elements("member", list)
}

func escape(s string) string {
	var b bytes.Buffer
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		panic(err)
	}
	return b.String()
}
