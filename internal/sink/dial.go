package sink

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// syslogPort is that of RFC 5425 section 4.1.
const syslogPort = "6514"

// dialer is what connects to the address of the options.
func dialer(o SyslogOptions) (func(context.Context) (*conn, error), error) {
	if path, ok := strings.CutPrefix(o.Address, "unix:"); ok {
		return unixDialer(path)
	}
	if address, ok := strings.CutPrefix(o.Address, "tls://"); ok {
		return tlsDialer(address, o)
	}
	return nil, fmt.Errorf("its address is %q: want tls://HOST:PORT or unix:/PATH", o.Address)
}

func unixDialer(path string) (func(context.Context) (*conn, error), error) {
	path = strings.TrimPrefix(path, "//")
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("the path of its socket is %q: want unix:/PATH", path)
	}
	return func(ctx context.Context) (*conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTime)
		defer cancel()
		var d net.Dialer
		c, err := d.DialContext(ctx, "unixgram", path)
		if err == nil {
			return &conn{Conn: c, framing: datagrams}, nil
		}
		if errors.Is(err, syscall.EPROTOTYPE) {
			c, err = d.DialContext(ctx, "unix", path)
		}
		if err != nil {
			return nil, fmt.Errorf("connect to the syslog socket: %w", err)
		}
		return &conn{Conn: c, framing: lineFeeds}, nil
	}, nil
}

func tlsDialer(address string, o SyslogOptions) (func(context.Context) (*conn, error), error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), syslogPort
	}
	if host == "" || port == "" || strings.ContainsAny(host, "/ ") {
		return nil, fmt.Errorf("its address is %q: want tls://HOST:PORT", o.Address)
	}
	if _, err := tlsConfig(host, o); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (*conn, error) {
		config, err := tlsConfig(host, o)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, dialTime)
		defer cancel()
		d := tls.Dialer{Config: config}
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
		if err != nil {
			return nil, fmt.Errorf("connect to the syslog server %s: %w", address, err)
		}
		return &conn{Conn: c, framing: octetCounting}, nil
	}, nil
}

func tlsConfig(host string, o SyslogOptions) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cmp.Or(o.ServerName, host)}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("read the CA of the syslog server: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the CA of the syslog server in %s holds no certificate in PEM", o.CA)
		}
	}
	if o.Cert == "" && o.Key == "" {
		return c, nil
	}
	pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
	if err != nil {
		return nil, fmt.Errorf("read the client certificate for the syslog server: %w", err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}
