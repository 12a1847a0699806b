package privatelink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	metadataTimeout = 2 * time.Second // of one try: the service is on the host itself
	maxMetadata     = 64 << 10        // bytes of one answer
)

// Identity is what the instance metadata says of the instance.
type Identity struct {
	Instance, Region, Zone, Account string
	Address                         netip.Addr // the primary private one
}

// openMetadata makes the client of the metadata service. A token is required,
// and no proxy is asked: the service answers on the host alone.
func openMetadata(endpoint string) *imds.Client {
	o := imds.Options{
		Endpoint:       endpoint,
		EnableFallback: aws.FalseTernary,
		HTTPClient: awshttp.NewBuildableClient().WithTimeout(metadataTimeout).WithTransportOptions(func(t *http.Transport) {
			t.Proxy = nil
		}),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = attempts }),
	}
	if endpoint != "" {
		o.ClientEnableState = imds.ClientEnabled
	}
	return imds.New(o)
}

// Identity asks the instance metadata who this instance is.
func (c *Client) Identity(ctx context.Context) (Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.identity(ctx)
}

func (c *Client) identity(ctx context.Context) (Identity, error) {
	out, err := c.metadata.GetInstanceIdentityDocument(ctx, &imds.GetInstanceIdentityDocumentInput{})
	if err != nil {
		return Identity{}, fmt.Errorf("ask the instance metadata for the identity document: %w", err)
	}
	address, err := netip.ParseAddr(out.PrivateIP)
	if err != nil || out.InstanceID == "" || out.Region == "" {
		return Identity{}, errors.New("the identity document in the instance metadata lacks instance, region or address")
	}
	return Identity{Instance: out.InstanceID, Region: out.Region, Zone: out.AvailabilityZone, Account: out.AccountID, Address: address}, nil
}

// lookup reads one path below meta-data. There may be no such path, which is no
// error.
func (c *Client) lookup(ctx context.Context, path string) (value string, found bool, err error) {
	out, err := c.metadata.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && response.HTTPStatusCode() == http.StatusNotFound {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("ask the instance metadata for %s: %w", path, err)
	}
	defer out.Content.Close()
	b, err := io.ReadAll(io.LimitReader(out.Content, maxMetadata))
	if err != nil {
		return "", false, fmt.Errorf("read %s of the instance metadata: %w", path, err)
	}
	return strings.TrimSpace(string(b)), true, nil
}
