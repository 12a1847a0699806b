package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Listen makes the socket at path, mode 0660, in a directory that it makes
// with mode 0750 where it is missing: root, the daemon's own account and the
// members of the socket's group can use it, nobody else. A socket on which
// nobody listens is replaced; one that is in use, or a file that is no socket,
// is an error. Closing the listener removes the socket if it is still its own.
func Listen(path string) (net.Listener, error) {
	ln, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("listen on admin socket %s: %w", path, err)
	}
	return ln, nil
}

func listen(path string) (net.Listener, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, errors.New("the path is not absolute")
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := isFree(path); err != nil {
		return nil, err
	}
	// The socket gets its mode before it gets its name, so that there is no
	// moment at which the umask decides who may connect.
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	info, err := expose(tmp, path)
	if err != nil {
		ln.Close()
		os.Remove(tmp)
		return nil, err
	}
	return &listener{UnixListener: ln, path: path, info: info}, nil
}

// makeDir makes dir as the umask does not: 0750.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return os.Chmod(dir, 0o750)
}

// isFree reports whether path may be taken.
func isFree(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is not a socket")
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return errors.New("another process answers there: is postern running already?")
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// expose gives the socket at tmp its mode and its name.
func expose(tmp, path string) (fs.FileInfo, error) {
	if err := os.Chmod(tmp, 0o660); err != nil {
		return nil, err
	}
	info, err := os.Lstat(tmp)
	if err != nil {
		return nil, err
	}
	return info, os.Rename(tmp, path)
}

type listener struct {
	*net.UnixListener
	path   string
	info   fs.FileInfo // of the socket
	unlink sync.Once
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *listener) Close() error {
	// Once: after that a successor's socket may have the same inode.
	l.unlink.Do(l.remove)
	return l.UnixListener.Close()
}

func (l *listener) remove() {
	if info, err := os.Lstat(l.path); err == nil && os.SameFile(info, l.info) {
		os.Remove(l.path)
	}
}
