package privatelink

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// acceptable are the endpoints that wait to be accepted and belong to one of the
// owners.
func acceptable(all []Endpoint, owners []string) []Endpoint {
	return slices.DeleteFunc(slices.Clone(all), func(e Endpoint) bool {
		return !e.Pending() || !slices.Contains(owners, e.Owner)
	})
}

// Accept accepts pending endpoints. An endpoint that was not accepted has its
// error in the map; the other error is of the call as a whole. It needs
// ec2:AcceptVpcEndpointConnections.
func (c *Client) Accept(ctx context.Context, service string, ids []string) (map[string]error, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	s, err := c.in(ctx)
	if err != nil {
		return nil, err
	}
	return accept(ctx, s.ec2, service, ids)
}

// accept reads what was unsuccessful: AWS answers with success either way.
func accept(ctx context.Context, api ec2Calls, service string, ids []string) (map[string]error, error) {
	out, err := api.accept(ctx, &ec2.AcceptVpcEndpointConnectionsInput{ServiceId: &service, VpcEndpointIds: ids})
	if err != nil {
		return nil, explain("ec2:AcceptVpcEndpointConnections", err)
	}
	failed := map[string]error{}
	for _, u := range out.Unsuccessful {
		code, message := "unknown", "no reason was given"
		if u.Error != nil {
			code, message = aws.ToString(u.Error.Code), aws.ToString(u.Error.Message)
		}
		failed[aws.ToString(u.ResourceId)] = fmt.Errorf("AWS did not accept the endpoint: %s: %s", code, message)
	}
	return failed, nil
}
