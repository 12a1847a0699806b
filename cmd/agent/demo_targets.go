package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// demoTargets is the machine behind the demo's gate.
type demoTargets struct {
	hostKey ssh.Signer
	users   []ssh.PublicKey
}

// serveEach gives each connection of ln to serve until ctx ends, and returns
// when all have ended.
func serveEach(ctx context.Context, ln net.Listener, serve func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		nc, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		all.Go(func() {
			defer nc.Close()
			cut := context.AfterFunc(ctx, func() { nc.Close() })
			defer cut()
			serve(nc)
		})
	}
}

// serveSSH is an SSH server that runs nothing and answers with a text.
func (t demoTargets) serveSSH(ctx context.Context, ln net.Listener) error {
	c := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if slices.ContainsFunc(t.users, func(u ssh.PublicKey) bool { return bytes.Equal(u.Marshal(), key.Marshal()) }) {
			return nil, nil
		}
		return nil, errors.New("not a key of the demo")
	}}
	c.AddHostKey(t.hostKey)
	return serveEach(ctx, ln, func(nc net.Conn) {
		conn, channels, requests, err := ssh.NewServerConn(nc, c)
		if err != nil {
			return // the client's business; the demo shows the gate
		}
		defer conn.Close()
		var all sync.WaitGroup
		defer all.Wait()
		all.Go(func() { ssh.DiscardRequests(requests) })
		for ch := range channels {
			if ch.ChannelType() != "session" {
				ch.Reject(ssh.UnknownChannelType, "the demo's target has sessions only")
				continue
			}
			all.Go(func() { serveDemoSession(conn.User(), ch) })
		}
	})
}

func serveDemoSession(user string, nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	for r := range requests {
		text := ""
		switch r.Type {
		case "exec":
			var exec struct{ Command string }
			if ssh.Unmarshal(r.Payload, &exec) == nil {
				text = fmt.Sprintf("The demo's target runs nothing, but it was reached: %s asked for %q.\r\n", user, exec.Command)
			}
		case "shell":
			text = fmt.Sprintf("Welcome, %s. This is the demo's target, reached through the gate; it has no shell.\r\n", user)
		}
		r.Reply(text != "" || r.Type == "pty-req" || r.Type == "env", nil)
		if text != "" {
			ch.Write([]byte(text))
			ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
			return
		}
	}
}

// serveDemoWeb is a web page.
func serveDemoWeb(ctx context.Context, ln net.Listener) error {
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "A web page behind the gate.")
	})}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serveDemoBanner speaks first, as databases and mail servers do.
func serveDemoBanner(ctx context.Context, ln net.Listener) error {
	return serveEach(ctx, ln, func(nc net.Conn) { fmt.Fprint(nc, "220 a service behind the gate that speaks first\r\n") })
}
