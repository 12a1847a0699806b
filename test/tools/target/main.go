// Target is a plain upstream for the gate's tunnels. It listens on TCP or a
// unix socket, prints its address, and serves every connection in one mode:
//
//	echo      sends back what it gets
//	banner    speaks first: a line; then echoes
//	discard   reads and never answers
//	source    sends -bytes of a stream that -seed fixes, then closes
//	sha       reads to the end, then answers its count and SHA-256
//	duplex    source and sha at once
//	hang      accepts, then neither reads nor writes
//	reset     resets at the first byte
//	http      answers one HTTP request with 200
package main

import (
	"bufio"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
)

type target struct {
	mode  string
	bytes int64
	seed  byte
}

func main() {
	var t target
	listen := flag.String("listen", "127.0.0.1:0", "`address`, or unix:PATH")
	flag.StringVar(&t.mode, "mode", "echo", "`mode`")
	flag.Int64Var(&t.bytes, "bytes", 1<<20, "`n` bytes that source sends")
	seed := flag.Int("seed", 1, "`n` that fixes the stream of source")
	sum := flag.Bool("sum", false, "print count and SHA-256 of what source would send, and exit")
	flag.Parse()
	t.seed = byte(*seed)
	if *sum {
		h := sha256.New()
		t.source(h)
		fmt.Printf("%d %x\n", t.bytes, h.Sum(nil))
		return
	}
	fmt.Fprintln(os.Stderr, "target:", t.run(*listen))
	os.Exit(1)
}

// run serves until that fails.
func (t target) run(listen string) error {
	network := "tcp"
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		network, listen = "unix", path
	}
	ln, err := net.Listen(network, listen)
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			// Ends with the process, which serves until it is killed.
			defer nc.Close()
			t.serve(nc)
		}()
	}
}

func (t target) serve(nc net.Conn) {
	switch t.mode {
	case "echo":
		io.Copy(nc, nc)
	case "banner":
		fmt.Fprintln(nc, "220 target speaks first")
		io.Copy(nc, nc)
	case "discard":
		io.Copy(io.Discard, nc)
	case "source":
		t.source(nc)
	case "sha":
		t.sha(nc)
	case "duplex":
		var wg sync.WaitGroup
		wg.Go(func() { t.source(nc) })
		digest := read(nc)
		wg.Wait()
		io.WriteString(nc, digest)
	case "hang":
		select {}
	case "reset":
		nc.Read(make([]byte, 1))
		if tcp, ok := nc.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
	case "http":
		t.http(nc)
	default:
		fmt.Fprintf(os.Stderr, "target: unknown mode %q\n", t.mode)
		os.Exit(2)
	}
}

// source sends a stream that has no pattern and is the same for each seed.
func (t target) source(w io.Writer) {
	stream := rand.NewChaCha8([32]byte{t.seed})
	io.CopyN(w, stream, t.bytes)
}

// sha answers after the end of file: a gate that does not keep the half-close
// never gets to see it.
func (t target) sha(nc net.Conn) {
	io.WriteString(nc, read(nc))
}

func read(nc net.Conn) string {
	h := sha256.New()
	n, err := io.Copy(h, nc)
	if err != nil {
		return fmt.Sprintf("read: %v\n", err)
	}
	return fmt.Sprintf("%d %x\n", n, h.Sum(nil))
}

func (t target) http(nc net.Conn) {
	lines := bufio.NewScanner(nc)
	for lines.Scan() && lines.Text() != "" {
	}
	const body = "hello from the target\n"
	fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
}
