package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

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
