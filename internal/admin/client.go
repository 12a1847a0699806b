package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// maxReply bounds what a Client reads, in bytes.
const maxReply = 64 << 20

// Client calls a running gate. Its errors are *Error, but for those of ctx.
// It is safe for concurrent use.
type Client struct {
	path string
	http *http.Client
}

// Dial returns a Client of the socket at path; it connects with each call.
func Dial(path string) *Client {
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		DisableKeepAlives:     true,
		ResponseHeaderTimeout: actTimeout + 10*time.Second,
	}}}
}

// Sessions returns the live sessions.
func (c *Client) Sessions(ctx context.Context) ([]SessionInfo, error) {
	var list sessionList
	err := c.call(ctx, http.MethodGet, "/v1/sessions", nil, &list)
	return list.Sessions, err
}

// Version returns what runs at the socket.
func (c *Client) Version(ctx context.Context) (VersionInfo, error) {
	var v VersionInfo
	err := c.call(ctx, http.MethodGet, "/v1/version", nil, &v)
	return v, err
}

// Kill cuts a session; the error wraps ErrNoSuchSession where there is none.
func (c *Client) Kill(ctx context.Context, id, reason string) error {
	if !isSegment(id) {
		return &Error{Text: fmt.Sprintf("no live session has the ID %q", id), Err: ErrNoSuchSession}
	}
	return c.call(ctx, http.MethodPost, "/v1/sessions/"+url.PathEscape(id)+"/kill", killRequest{reason}, nil)
}

// Freeze cuts an identity off now and for the time to come, or lifts that; the
// error wraps ErrNoSuchIdentity where there is none.
func (c *Client) Freeze(ctx context.Context, identity string, frozen bool) error {
	if !isSegment(identity) {
		return &Error{Text: fmt.Sprintf("no identity has the name %q", identity), Err: ErrNoSuchIdentity}
	}
	verb := "/freeze"
	if !frozen {
		verb = "/thaw"
	}
	return c.call(ctx, http.MethodPost, "/v1/identities/"+url.PathEscape(identity)+verb, nil, nil)
}

// Drain begins the end of the gate; it does not wait for it.
func (c *Client) Drain(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/drain", nil, nil)
}

// Reload has the gate read its files again. On an error it keeps what it had.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/reload", nil, nil)
}

// Access writes down that the caller is about to look at recordings; when it
// returns nil, that is durable.
func (c *Client) Access(ctx context.Context, a Access) error {
	return c.call(ctx, http.MethodPost, "/v1/access", a, nil)
}

// isSegment reports whether s can stand between two slashes of a path.
func isSegment(s string) bool { return s != "" && s != "." && s != ".." }

// call makes one request; in and out may be nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://postern"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(ctx, err)
	}
	defer resp.Body.Close()
	return c.read(resp, out)
}

// explain says what a connection that failed means.
func (c *Client) explain(ctx context.Context, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &Error{Text: "no postern answers on " + c.path, Hint: "is postern running? try: systemctl status postern", Err: errors.Join(ErrNotRunning, err)}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Text: "this account may not use " + c.path, Hint: "run it as root, or as a member of the socket's group", Err: errors.Join(ErrNotAllowed, err)}
	}
	return &Error{Text: fmt.Sprintf("call postern on %s: %v", c.path, err)}
}

// read takes a reply apart.
func (c *Client) read(resp *http.Response, out any) error {
	d := json.NewDecoder(io.LimitReader(resp.Body, maxReply))
	if resp.StatusCode != http.StatusOK {
		var f fault
		if d.Decode(&f) != nil || f.Error == "" {
			return &Error{Text: fmt.Sprintf("%s answers %s", c.path, resp.Status), Hint: "is it postern's admin socket?"}
		}
		return &Error{Text: f.Error, Hint: f.Hint, Err: map[string]error{
			codeNoSuchSession: ErrNoSuchSession, codeNoSuchIdentity: ErrNoSuchIdentity,
		}[f.Code]}
	}
	if out == nil {
		return nil
	}
	if err := d.Decode(out); err != nil {
		return &Error{Text: fmt.Sprintf("read postern's answer on %s: %v", c.path, err)}
	}
	return nil
}
