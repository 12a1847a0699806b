package sshgate

import (
	"bytes"
	"encoding/binary"
	"sync"
)

// echo guesses whether a terminal shows what is typed, so that passwords stay
// out of recordings. Nothing in SSH says when a program turns echo off. It
// withholds
//   - everything, where the client asked for a terminal without ECHO;
//   - a line, where what was shown last looks like the prompt for a secret.
//
// A secret that is typed before its prompt, or after one of another wording,
// is not recognised: rules that record input say so in the documentation.
type echo struct {
	off bool // set once before use

	mu     sync.Mutex // guards the rest
	tail   []byte     // of what was shown
	secret bool       // a line is being withheld
}

const echoTail = 256

// shown takes what the terminal shows.
func (e *echo) shown(p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(p) >= echoTail {
		e.tail = append(e.tail[:0], p[len(p)-echoTail:]...)
		return
	}
	if over := len(e.tail) + len(p) - echoTail; over > 0 {
		e.tail = append(e.tail[:0], e.tail[over:]...)
	}
	e.tail = append(e.tail, p...)
}

// typed returns what of p may be recorded.
func (e *echo) typed(p []byte) []byte {
	if e.off {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.secret = e.secret || asksForSecret(e.tail)
	if !e.secret {
		return p
	}
	end := bytes.IndexAny(p, "\r\n\x03\x04") // a line's end, or ^C and ^D that give up
	if end < 0 {
		return nil
	}
	e.secret, e.tail = false, e.tail[:0]
	return p[end+1:]
}

// secretWords are what prompts for secrets are made of.
func secretWords() []string {
	return []string{"password", "passphrase", "passwort", "passcode", "pin", "token", "code", "secret", "otp"}
}

// asksForSecret reports whether the last line shown ends with a colon and
// holds one of the words.
func asksForSecret(tail []byte) bool {
	line := bytes.TrimRight(withoutCSI(tail), " ")
	if i := bytes.LastIndexAny(line, "\r\n"); i >= 0 {
		line = line[i+1:]
	}
	if !bytes.HasSuffix(line, []byte(":")) {
		return false
	}
	line = bytes.ToLower(line)
	for _, w := range secretWords() {
		if bytes.Contains(line, []byte(w)) {
			return true
		}
	}
	return false
}

// withoutCSI returns p without control sequences (ECMA-48 §5.4): prompts come
// in colour.
func withoutCSI(p []byte) []byte {
	if bytes.IndexByte(p, 0x1b) < 0 {
		return p
	}
	out := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		if p[i] != 0x1b || i+1 == len(p) || p[i+1] != '[' {
			out = append(out, p[i])
			continue
		}
		for i += 2; i < len(p) && (p[i] < 0x40 || p[i] > 0x7e); i++ {
		}
	}
	return out
}

// echoOff reads the modes of a pty-req (RFC 4254 §8): opcodes below 160 have a
// uint32, anything else ends the list.
func echoOff(modes string) bool {
	const ttyEcho = 53
	for b := []byte(modes); len(b) >= 5 && b[0] > 0 && b[0] < 160; b = b[5:] {
		if b[0] == ttyEcho && binary.BigEndian.Uint32(b[1:]) == 0 {
			return true
		}
	}
	return false
}
