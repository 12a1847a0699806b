package privatelink

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/test/awsfake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is an AWS with the account, and a client that knows only it.
func fake(t *testing.T, a *awsfake.Account) (*awsfake.Server, *awsfake.IMDS, *Client) {
	t.Helper()
	server, metadata := awsfake.New(), awsfake.NewIMDS(a)
	server.Account(a)
	environment(t, server)
	client, err := Open(t.Context(), Options{Metadata: metadata.URL, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		metadata.Close()
		server.Close()
	})
	return server, metadata, client
}

func environment(t *testing.T, server *awsfake.Server) {
	t.Helper()
	for _, pair := range server.Env() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
}
