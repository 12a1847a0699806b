package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"postern/internal/admin"
	"postern/internal/audit"
	"postern/internal/sshgate"
)

// control is what the admin socket controls: the running gate.
type control struct {
	socket string
	rules  *rules
	server *sshgate.Server
	drain  func(ending)
}

var _ admin.Gate = (*control)(nil)

// Sessions returns the live sessions.
func (c *control) Sessions() []admin.SessionInfo {
	infos := []admin.SessionInfo{}
	for _, s := range c.server.Sessions() {
		infos = append(infos, sessionInfo(s))
	}
	return infos
}

func sessionInfo(s sshgate.Session) admin.SessionInfo {
	info := admin.SessionInfo{
		ID: s.ID, Identity: s.Identity, User: s.User, Endpoint: s.Endpoint,
		Client: s.Client.String(), Since: s.Since, Channels: []admin.ChannelInfo{},
		BytesIn: s.BytesIn, BytesOut: s.BytesOut,
		RTTMillis: float64(s.RTT) / float64(time.Millisecond),
	}
	for _, ch := range s.Channels {
		info.Channels = append(info.Channels, admin.ChannelInfo(ch))
	}
	return info
}

// Kill cuts the session whose ID is id or, if there is but one, begins with it.
func (c *control) Kill(ctx context.Context, by admin.Caller, id, reason string) error {
	id, err := c.session(id)
	if err != nil {
		return err
	}
	werr := c.rules.write(ctx, audit.Event{Code: audit.AdminAction, Admin: c.admin(by, "sessions.kill"),
		Session: id, Entity: id, Message: "session " + id + " cut by " + by.Name, Detail: reason})
	if !c.server.Kill(id, reason) {
		return noSuchSession(fmt.Sprintf("session %s has ended by itself", id))
	}
	return werr
}

func (c *control) session(id string) (string, error) {
	var found []string
	for _, s := range c.server.Sessions() {
		if s.ID == id {
			return id, nil
		}
		if id != "" && strings.HasPrefix(s.ID, id) {
			found = append(found, s.ID)
		}
	}
	switch len(found) {
	case 0:
		return "", noSuchSession(fmt.Sprintf("no live session has the ID %q", id))
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%d live sessions have an ID that begins with %q", len(found), id)
}

func noSuchSession(text string) error {
	return &admin.Error{Text: text, Hint: "postern sessions shows the live ones", Err: admin.ErrNoSuchSession}
}

// Freeze cuts an identity off, or lifts that.
func (c *control) Freeze(ctx context.Context, by admin.Caller, identity string, frozen bool) error {
	operation := "identities.freeze"
	if !frozen {
		operation = "identities.lift"
	}
	return c.rules.freeze(ctx, c.admin(by, operation), identity, frozen)
}

// Drain begins the end of the gate and does not wait for it.
func (c *control) Drain(ctx context.Context, by admin.Caller) error {
	werr := c.rules.write(ctx, audit.Event{Code: audit.AdminAction, Admin: c.admin(by, "gate.drain"),
		Entity: "gate", Message: "drain begun by " + by.Name})
	c.drain(ending{reason: "drain", by: by.Name})
	return werr
}

// Reload reads both files again.
func (c *control) Reload(ctx context.Context, by admin.Caller) error {
	return c.rules.reload(ctx, c.admin(by, "config.reload"))
}

func (c *control) admin(by admin.Caller, operation string) *audit.Admin {
	return &audit.Admin{Name: by.Name, UID: by.UID, GID: by.GID, PID: by.PID,
		Operation: operation, Via: "unix:" + c.socket}
}

// ownProcess is the actor of what the gate does by itself, or on a signal,
// whose sender it cannot know.
func ownProcess(operation, via string) *audit.Admin {
	name := strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return &audit.Admin{Name: name, UID: os.Getuid(), GID: os.Getgid(), PID: os.Getpid(), Operation: operation, Via: via}
}
