package doctor

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
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// place asks the metadata service where this instance is, which needs no
// permission. An instance that is named is looked for later.
func (c *collector) place(ctx context.Context, named string) Fact[Place] {
	if named != "" {
		return unanswered[Place](&Failure{Kind: Waiting, WaitsFor: "ec2:DescribeInstances"})
	}
	ctx, cancel := context.WithTimeout(ctx, c.patience.metadata)
	defer cancel()
	client := imds.New(imds.Options{EnableFallback: aws.FalseTernary})
	out, err := client.GetInstanceIdentityDocument(ctx, &imds.GetInstanceIdentityDocumentInput{})
	if err != nil {
		return unanswered[Place](&Failure{Kind: Absent, Err: errors.New("this host is no instance of EC2: its metadata service does not answer")})
	}
	p := Place{Instance: out.InstanceID, Region: out.Region, Zone: out.AvailabilityZone, Account: out.AccountID}
	if err := p.network(ctx, client); err != nil {
		return unanswered[Place](&Failure{Action: "the instance metadata service", Kind: ServiceError, Err: err})
	}
	return Fact[Place]{Value: p}
}

// network reads where the first network interface is.
func (p *Place) network(ctx context.Context, client *imds.Client) error {
	mac, err := metadatum(ctx, client, "mac")
	for path, to := range map[string]func(string){
		"interface-id":       func(s string) { p.Interface = s },
		"subnet-id":          func(s string) { p.Subnet = s },
		"vpc-id":             func(s string) { p.VPC = s },
		"security-group-ids": func(s string) { p.SecurityGroups = strings.Fields(s) },
		"local-ipv4s":        func(s string) { p.Addresses = addresses(strings.Fields(s)) },
		"public-ipv4s":       func(s string) { p.Public = addresses(strings.Fields(s)) },
	} {
		var value string
		if err == nil {
			value, err = metadatum(ctx, client, "network/interfaces/macs/"+mac+"/"+path)
		}
		to(value)
	}
	if err == nil && (p.Subnet == "" || p.VPC == "") {
		err = errors.New("it names no subnet of this instance")
	}
	return err
}

// metadatum is "" where there is none, which the service says by 404.
func metadatum(ctx context.Context, client *imds.Client, path string) (string, error) {
	out, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && response.HTTPStatusCode() == http.StatusNotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer out.Content.Close()
	b, err := io.ReadAll(io.LimitReader(out.Content, 64<<10))
	return strings.TrimSpace(string(b)), err
}

func addresses(texts []string) []netip.Addr {
	var all []netip.Addr
	for _, t := range texts {
		if a, err := netip.ParseAddr(t); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// machine looks at the bastion with the eyes of EC2, and learns where one is
// that was named.
func (c *collector) machine(ctx context.Context) {
	id := c.Setup.Instance
	if id == "" {
		if f := c.Place.Failure; f != nil {
			c.Machine = unanswered[Machine](f)
			return
		}
		id = c.Place.Value.Instance
	}
	found := ask(ctx, c, "ec2:DescribeInstances", func(ctx context.Context) (types.Instance, error) {
		all, err := instances(ctx, c.ec2, id)
		if err == nil && len(all) == 0 {
			err = fmt.Errorf("there is no instance %s in %s", id, c.Region)
		}
		if err != nil {
			return types.Instance{}, err
		}
		return all[0], nil
	})
	c.Machine = Fact[Machine]{machineOf(found.Value), found.Failure}
	if c.Setup.Instance != "" {
		c.Place = Fact[Place]{placeOf(found.Value, c.Region), found.Failure}
	}
}

func instances(ctx context.Context, client *ec2.Client, ids ...string) ([]types.Instance, error) {
	var all []types.Instance
	pages := ec2.NewDescribeInstancesPaginator(describeInstances(client.DescribeInstances), &ec2.DescribeInstancesInput{InstanceIds: ids})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range out.Reservations {
			all = append(all, r.Instances...)
		}
	}
	return all, nil
}

func machineOf(i types.Instance) Machine {
	var m Machine
	if o := i.MetadataOptions; o != nil {
		m.TokensRequired = o.HttpTokens == types.HttpTokensStateRequired || o.HttpEndpoint == types.InstanceMetadataEndpointStateDisabled
	}
	for _, n := range i.NetworkInterfaces {
		if t := n.ConnectionTrackingConfiguration; t != nil && t.TcpEstablishedTimeout != nil {
			m.Established = time.Duration(*t.TcpEstablishedTimeout) * time.Second
		}
	}
	for _, t := range i.Tags {
		if aws.ToString(t.Key) == "aws:autoscaling:groupName" {
			m.AutoScaling = aws.ToString(t.Value)
		}
	}
	return m
}

func placeOf(i types.Instance, region string) Place {
	p := Place{Instance: aws.ToString(i.InstanceId), Region: region, VPC: aws.ToString(i.VpcId), Subnet: aws.ToString(i.SubnetId),
		Addresses: addresses([]string{aws.ToString(i.PrivateIpAddress)}), Public: addresses([]string{aws.ToString(i.PublicIpAddress)})}
	if i.Placement != nil {
		p.Zone = aws.ToString(i.Placement.AvailabilityZone)
	}
	for _, g := range i.SecurityGroups {
		p.SecurityGroups = append(p.SecurityGroups, aws.ToString(g.GroupId))
	}
	if len(i.NetworkInterfaces) > 0 {
		p.Interface = aws.ToString(i.NetworkInterfaces[0].NetworkInterfaceId)
	}
	return p
}

func (c *collector) hooks(ctx context.Context) {
	group := c.Machine.Value.AutoScaling
	if group == "" {
		c.Hooks = unanswered[[]Hook](unless(c.Machine.Failure, "the bastion is in no Auto Scaling group"))
		return
	}
	c.Hooks = ask(ctx, c, "autoscaling:DescribeLifecycleHooks", func(ctx context.Context) ([]Hook, error) {
		out, err := c.asg.DescribeLifecycleHooks(ctx, &autoscaling.DescribeLifecycleHooksInput{AutoScalingGroupName: aws.String(group)})
		if err != nil {
			return nil, err
		}
		var all []Hook
		for _, h := range out.LifecycleHooks {
			all = append(all, Hook{aws.ToString(h.LifecycleHookName), aws.ToString(h.LifecycleTransition), time.Duration(aws.ToInt32(h.HeartbeatTimeout)) * time.Second})
		}
		return all, nil
	})
}
