package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"postern/internal/nlb"
	"postern/test/gateclient"
)

const version = "SSH-2.0-attack\r\n"

// payload is what a raw attack sends.
type payload struct {
	bare  bool          // without the PROXY header
	local bool          // with the header of a health check
	close bool          // then close
	drip  time.Duration // one byte each
	data  []byte
}

// payload returns what the raw attacks send, false for the other kinds.
func (a attack) payload() (payload, bool) {
	switch a.kind {
	case "silent":
		return payload{bare: true}, true
	case "probe":
		return payload{bare: true, close: true}, true
	case "local":
		return payload{local: true, close: true}, true
	case "half-open":
		return payload{data: []byte("SSH-2.0-")}, true
	case "slow-header":
		return payload{bare: true, drip: 300 * time.Millisecond, data: a.Header(gateclient.Client(1))}, true
	case "slow-version":
		return payload{drip: time.Second, data: []byte("SSH-2.0-" + strings.Repeat("slow", 50))}, true
	case "random":
		return payload{bare: true, data: random(4096)}, true
	case "random-after-header":
		return payload{data: random(4096)}, true
	case "huge-version":
		return payload{data: append([]byte("SSH-2.0-"), bytes.Repeat([]byte("x"), 1<<20)...)}, true
	case "pre-version-lines":
		return payload{data: bytes.Repeat([]byte("hello\r\n"), 1024)}, true
	case "no-newkeys":
		return payload{data: append([]byte(version), kexInit("curve25519-sha256")...)}, true
	case "kexinit-flood":
		kex := append([]byte(version), kexInit("curve25519-sha256")...)
		return payload{data: append(kex, bytes.Repeat(kexInit("curve25519-sha256"), 100)...)}, true
	case "huge-kexinit":
		return payload{data: append([]byte(version), kexInit(strings.Repeat("a,", 200<<10))...)}, true
	}
	return payload{}, false
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// connection makes the n-th connection and waits until the gate closes it or
// ctx ends.
func (a attack) connection(ctx context.Context, n int, p payload) outcome {
	start := time.Now()
	nc, err := a.Silent(ctx)
	if errors.Is(err, syscall.ECONNRESET) {
		return outcome{closed: true, after: time.Since(start)} // before connect(2) came back
	}
	if err != nil {
		return outcome{err: err}
	}
	defer nc.Close()
	deadline, _ := ctx.Deadline()
	nc.SetDeadline(deadline)
	done := make(chan struct{})
	defer func() { nc.Close(); <-done }()
	go func() {
		defer close(done)
		a.send(ctx, nc, n, p)
	}()
	got, err := io.Copy(io.Discard, nc)
	timeout, ok := err.(net.Error)
	return outcome{closed: !(ok && timeout.Timeout()), after: time.Since(start), got: int(got)}
}

// send ignores errors: the gate may close at any byte.
func (a attack) send(ctx context.Context, nc *net.TCPConn, n int, p payload) {
	if p.local {
		nc.Write(nlb.AppendLocal(nil))
	} else if !p.bare {
		nc.Write(a.Header(a.client(n)))
	}
	if p.drip == 0 {
		nc.Write(p.data)
	} else {
		drip(ctx, nc, p)
	}
	if p.close {
		nc.CloseWrite()
	}
}

func drip(ctx context.Context, nc net.Conn, p payload) {
	tick := time.NewTicker(p.drip)
	defer tick.Stop()
	for i := range p.data {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := nc.Write(p.data[i : i+1]); err != nil {
			return
		}
	}
}

func (a attack) client(n int) (c netip.AddrPort) {
	if !a.same {
		return gateclient.Client(n)
	}
	return netip.AddrPortFrom(gateclient.Client(0).Addr(), uint16(1024+n))
}

// kexInit is an unencrypted SSH_MSG_KEXINIT packet (RFC 4253 §6, §7.1) with
// these key exchange methods.
func kexInit(methods string) []byte {
	payload := append([]byte{20}, make([]byte, 16)...)
	for _, list := range []string{methods, "ssh-ed25519", "aes128-gcm@openssh.com", "aes128-gcm@openssh.com",
		"hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""} {
		payload = binary.BigEndian.AppendUint32(payload, uint32(len(list)))
		payload = append(payload, list...)
	}
	payload = append(payload, 0, 0, 0, 0, 0)
	padding := 8 - (5+len(payload))%8
	if padding < 4 {
		padding += 8
	}
	packet := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))
	packet = append(packet, byte(padding))
	return append(append(packet, payload...), make([]byte, padding)...)
}
