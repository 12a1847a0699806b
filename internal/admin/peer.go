package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

var errNoCredentials = errors.New("the peer has no credentials")

// callerKey is the key of a Caller in the context of a connection.
type callerKey struct{}

// withCaller is http.Server.ConnContext. The kernel took the credentials when
// the peer connected, so a caller cannot choose them nor hand them on.
func withCaller(ctx context.Context, c net.Conn) context.Context {
	by, err := peer(c)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, by)
}

// caller returns who is at the other end, with the account's name.
func caller(ctx context.Context) (Caller, error) {
	by, ok := ctx.Value(callerKey{}).(Caller)
	if !ok {
		return Caller{}, errNoCredentials
	}
	by.Name = accountName(by.UID)
	return by, nil
}

func accountName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", uid)
}

// peer asks the kernel who connected (SO_PEERCRED, unix(7)).
func peer(c net.Conn) (Caller, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Caller{}, errNoCredentials
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Caller{}, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return Caller{}, cerr
	}
	if err != nil {
		return Caller{}, err
	}
	return Caller{UID: int(cred.Uid), GID: int(cred.Gid), PID: int(cred.Pid)}, nil
}
