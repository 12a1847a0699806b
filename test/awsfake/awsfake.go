// Package awsfake is AWS in a test's process: it speaks the wire formats of the
// calls that the gate makes, and fails in the ways that AWS does.
package awsfake

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// Request is one call as a service sees it.
type Request struct {
	Service   string // the name in the credential's scope: kms, logs, ec2 ...
	Operation string // Sign, DescribeNetworkInterfaces ...
	Body      []byte
	HTTP      *http.Request
	Header    http.Header // of the answer
}

// Fault makes calls fail. Zero fields match, or do, nothing in particular.
type Fault struct {
	Service, Operation string // which calls; "" = all
	Times              int    // how many; 0 = all from now on
	Delay              time.Duration
	Status             int // answered instead, with Code and Message as the service's protocol has them
	Code, Message      string
	HTML               bool // the answer is a page of HTML, as of a proxy
	Truncate           int  // the true answer, cut after so many bytes; 0 = whole
	Hang               bool // no answer until the client gives up
}

// Server is the fake. Its methods may be called from any goroutine.
type Server struct {
	URL string

	http *httptest.Server

	mu       sync.Mutex
	services map[string]func(Request) (status int, body []byte)
	faults   []*Fault
	calls    []string // "service Operation"
}

// New starts a fake without services; Close ends it.
func New() *Server {
	s := &Server{services: map[string]func(Request) (int, []byte){}}
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	s.URL = s.http.URL
	return s
}

// Close ends the fake and the calls that hang.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// Env is what a process needs in its environment to find the fake and nothing
// of the real AWS.
func (s *Server) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + s.URL, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret", "AWS_REGION=us-east-1",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true",
	}
}

// Serve adds a service, by its name in the credential's scope.
func (s *Server) Serve(service string, answer func(Request) (status int, body []byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services[service] = answer
}

// Fail adds a fault and returns what takes it away again.
func (s *Server) Fail(f Fault) (mend func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(g *Fault) bool { return g == &f })
	}
}

// Calls lists the calls by now, "service Operation" each.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	call := Request{Service: service(r), Operation: operation(r, body), Body: body, HTTP: r, Header: w.Header()}
	answer, fault := s.admit(call)
	if answer == nil {
		http.Error(w, "awsfake: no service "+call.Service, http.StatusNotImplemented)
		return
	}
	if !fault.before(w, r, call) {
		return
	}
	w.Header().Set("Content-Type", contentType(r))
	status, reply := answer(call)
	w.Header().Set("X-Amzn-RequestId", "00000000-0000-0000-0000-000000000000")
	if fault.Truncate > 0 && fault.Truncate < len(reply) {
		w.Header().Set("Content-Length", fmt.Sprint(len(reply)))
		reply = reply[:fault.Truncate]
	}
	w.WriteHeader(status)
	_, _ = w.Write(reply) // the client may be gone
}

func (s *Server) admit(call Request) (func(Request) (int, []byte), Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call.Service+" "+call.Operation)
	for i, f := range s.faults {
		if f.Service != "" && f.Service != call.Service || f.Operation != "" && f.Operation != call.Operation {
			continue
		}
		hit := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return s.services[call.Service], hit
	}
	return s.services[call.Service], Fault{}
}

// before does what the fault does instead of an answer, and reports whether
// there is to be a true one.
func (f Fault) before(w http.ResponseWriter, r *http.Request, call Request) bool {
	if f.Delay > 0 || f.Hang {
		wait := f.Delay
		if f.Hang {
			wait = time.Hour
		}
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			return false
		}
	}
	switch {
	case f.HTML:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(max(f.Status, http.StatusInternalServerError))
		_, _ = io.WriteString(w, "<html><body><h1>502 Bad Gateway</h1></body></html>")
	case f.Status != 0:
		w.Header().Set("Content-Type", contentType(r))
		w.WriteHeader(f.Status)
		_, _ = w.Write(ErrorBody(call, f.Code, f.Message))
	default:
		return true
	}
	return false
}

// ErrorBody is an error as the protocol of the call's service writes it.
func ErrorBody(call Request, code, message string) []byte {
	if call.HTTP.Header.Get("X-Amz-Target") != "" {
		b, _ := json.Marshal(map[string]string{"__type": code, "message": message})
		return b
	}
	if call.Service == "s3" {
		return fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message><RequestId>0</RequestId></Error>`, code, message)
	}
	if call.Service == "ec2" {
		return fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>0</RequestID></Response>`, code, message)
	}
	return fmt.Appendf(nil, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>0</RequestId></ErrorResponse>`, code, message)
}

// service is the one that the request was signed for: the fourth part of
// Credential=KEY/DATE/REGION/SERVICE/aws4_request.
func service(r *http.Request) string {
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	scope, _, _ := strings.Cut(rest, ",")
	if parts := strings.Split(scope, "/"); len(parts) == 5 {
		return parts[3]
	}
	return ""
}

// operation is in X-Amz-Target of JSON protocols, in Action of the query one.
func operation(r *http.Request, body []byte) string {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		_, name, _ := strings.Cut(target, ".")
		return name
	}
	for pair := range strings.SplitSeq(string(body), "&") {
		if name, ok := strings.CutPrefix(pair, "Action="); ok {
			return name
		}
	}
	return r.Method
}

func contentType(r *http.Request) string {
	if r.Header.Get("X-Amz-Target") != "" {
		return "application/x-amz-json-1.1"
	}
	return "text/xml"
}
