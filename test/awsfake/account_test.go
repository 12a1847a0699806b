package awsfake_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"

	"postern/test/awsfake"
)

// serve starts a fake with the account, and an SDK that knows only it.
func serve(t *testing.T, a *awsfake.Account) (*awsfake.Server, aws.Config) {
	t.Helper()
	s := awsfake.New()
	t.Cleanup(s.Close)
	s.Account(a)
	return s, aws.Config{Region: "us-east-1", BaseEndpoint: &s.URL, Retryer: func() aws.Retryer { return aws.NopRetryer{} },
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"}, nil
		})}
}

func code(t *testing.T, err error) string {
	t.Helper()
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	t.Fatalf("not an error of the service: %v", err)
	return ""
}

func TestTheSDKReadsTheAccountPageByPage(t *testing.T) {
	_, cfg := serve(t, awsfake.Correct())
	var got []types.NetworkInterface
	pages := ec2.NewDescribeNetworkInterfacesPaginator(ec2.NewFromConfig(cfg), &ec2.DescribeNetworkInterfacesInput{})
	count := 0
	for ; pages.HasMorePages(); count++ {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page.NetworkInterfaces...)
	}
	if len(got) != 4 || count != 2 {
		t.Fatalf("%d interfaces on %d pages, want 4 on 2", len(got), count)
	}
	node := got[2]
	if *node.Description != "ELB net/gate/50dc6c495c0c9188" || node.InterfaceType != types.NetworkInterfaceTypeNetworkLoadBalancer ||
		*node.PrivateIpAddresses[0].PrivateIpAddress != "10.0.1.25" || !*node.RequesterManaged || *node.VpcId != awsfake.GateVPC {
		t.Errorf("the balancer's node reads as %+v", node)
	}
}

func TestFiltersAreHonouredAndUnknownOnesRefused(t *testing.T) {
	_, cfg := serve(t, awsfake.Correct())
	client := ec2.NewFromConfig(cfg)
	filter := func(name, value string) []types.Filter { return []types.Filter{{Name: &name, Values: []string{value}}} }
	out, err := client.DescribeRouteTables(t.Context(), &ec2.DescribeRouteTablesInput{Filters: filter("association.subnet-id", "subnet-0a100000000000b1")})
	if err != nil || len(out.RouteTables) != 1 || len(out.RouteTables[0].Routes) != 3 || *out.RouteTables[0].Routes[2].DestinationPrefixListId != "pl-63a5400a" {
		t.Errorf("route tables of the subnet: %+v, %v", out, err)
	}
	_, err = client.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{Filters: filter("vpc", "x")})
	if got := code(t, err); got != "InvalidParameterValue" {
		t.Errorf("an unknown filter is answered with %s", got)
	}
	_, err = client.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{SubnetIds: []string{"subnet-0"}})
	if got := code(t, err); got != "InvalidSubnetID.NotFound" {
		t.Errorf("an unknown subnet is answered with %s", got)
	}
}

func TestTheOtherCallsOfEC2ReadBack(t *testing.T) {
	_, cfg := serve(t, awsfake.Correct())
	client, ctx := ec2.NewFromConfig(cfg), t.Context()
	services, err := client.DescribeVpcEndpointServiceConfigurations(ctx, &ec2.DescribeVpcEndpointServiceConfigurationsInput{ServiceIds: []string{awsfake.GateService}})
	if err != nil || !*services.ServiceConfigurations[0].AcceptanceRequired || services.ServiceConfigurations[0].ServiceState != types.ServiceStateAvailable ||
		services.ServiceConfigurations[0].NetworkLoadBalancerArns[0] != awsfake.GateBalancer || len(services.ServiceConfigurations[0].AvailabilityZoneIds) != 2 {
		t.Errorf("service: %+v, %v", services, err)
	}
	allowed, err := client.DescribeVpcEndpointServicePermissions(ctx, &ec2.DescribeVpcEndpointServicePermissionsInput{ServiceId: aws.String(awsfake.GateService)})
	if err != nil || *allowed.AllowedPrincipals[0].Principal != "arn:aws:iam::111122223333:root" {
		t.Errorf("permissions: %+v, %v", allowed, err)
	}
	connections, err := client.DescribeVpcEndpointConnections(ctx, &ec2.DescribeVpcEndpointConnectionsInput{})
	if err != nil || connections.VpcEndpointConnections[0].VpcEndpointState != "available" || *connections.VpcEndpointConnections[0].ServiceId != awsfake.GateService {
		t.Errorf("connections: %+v, %v", connections, err)
	}
	hosts, err := client.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{awsfake.GateInstance}})
	if err != nil || hosts.Reservations[0].Instances[0].MetadataOptions.HttpTokens != types.HttpTokensStateRequired ||
		hosts.Reservations[0].Instances[0].PublicIpAddress != nil || *hosts.Reservations[0].Instances[0].SecurityGroups[0].GroupId != awsfake.GateSG {
		t.Errorf("instance: %+v, %v", hosts, err)
	}
	rules, err := client.DescribeSecurityGroupRules(ctx, &ec2.DescribeSecurityGroupRulesInput{})
	if err != nil || *rules.SecurityGroupRules[0].ReferencedGroupInfo.GroupId != awsfake.BalancerSG || rules.SecurityGroupRules[0].CidrIpv4 != nil {
		t.Errorf("rules: %+v, %v", rules, err)
	}
	acls, err := client.DescribeNetworkAcls(ctx, &ec2.DescribeNetworkAclsInput{})
	if err != nil || len(acls.NetworkAcls[0].Entries) != 4 || acls.NetworkAcls[0].Entries[0].PortRange != nil {
		t.Errorf("network ACLs: %+v, %v", acls, err)
	}
	dns, err := client.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: aws.String(awsfake.GateVPC), Attribute: types.VpcAttributeNameEnableDnsSupport})
	if err != nil || !*dns.EnableDnsSupport.Value {
		t.Errorf("DNS support: %+v, %v", dns, err)
	}
	gateways, err := client.DescribeVpcEndpoints(ctx, &ec2.DescribeVpcEndpointsInput{})
	if err != nil || gateways.VpcEndpoints[0].RouteTableIds[0] != "rtb-0a100000000000001" {
		t.Errorf("endpoints: %+v, %v", gateways, err)
	}
	lists, err := client.DescribePrefixLists(ctx, &ec2.DescribePrefixListsInput{})
	if err != nil || *lists.PrefixLists[0].PrefixListName != "com.amazonaws.us-east-1.s3" {
		t.Errorf("prefix lists: %+v, %v", lists, err)
	}
}

func TestTheCallsOfELBReadBack(t *testing.T) {
	_, cfg := serve(t, awsfake.Correct())
	client, ctx := elasticloadbalancingv2.NewFromConfig(cfg), t.Context()
	balancers, err := client.DescribeLoadBalancers(ctx, &elasticloadbalancingv2.DescribeLoadBalancersInput{LoadBalancerArns: []string{awsfake.GateBalancer}})
	if err != nil || *balancers.LoadBalancers[0].VpcId != awsfake.GateVPC || balancers.LoadBalancers[0].State.Code != "active" ||
		*balancers.LoadBalancers[0].EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic != "on" || len(balancers.LoadBalancers[0].AvailabilityZones) != 2 {
		t.Errorf("load balancer: %+v, %v", balancers, err)
	}
	groups, err := client.DescribeTargetGroups(ctx, &elasticloadbalancingv2.DescribeTargetGroupsInput{LoadBalancerArn: aws.String(awsfake.GateBalancer)})
	if err != nil || *groups.TargetGroups[0].HealthCheckPort != "8022" || *groups.TargetGroups[0].Matcher.HttpCode != "200" || *groups.TargetGroups[0].UnhealthyThresholdCount != 2 {
		t.Errorf("target group: %+v, %v", groups, err)
	}
	health, err := client.DescribeTargetHealth(ctx, &elasticloadbalancingv2.DescribeTargetHealthInput{TargetGroupArn: aws.String(awsfake.GateTargets)})
	if err != nil || len(health.TargetHealthDescriptions) != 2 || health.TargetHealthDescriptions[0].TargetHealth.State != "healthy" {
		t.Errorf("health: %+v, %v", health, err)
	}
	attributes, err := client.DescribeTargetGroupAttributes(ctx, &elasticloadbalancingv2.DescribeTargetGroupAttributesInput{TargetGroupArn: aws.String(awsfake.GateTargets)})
	if err != nil || len(attributes.Attributes) != 10 {
		t.Errorf("attributes: %+v, %v", attributes, err)
	}
	listeners, err := client.DescribeListeners(ctx, &elasticloadbalancingv2.DescribeListenersInput{LoadBalancerArn: aws.String(awsfake.GateBalancer)})
	if err != nil || *listeners.Listeners[0].DefaultActions[0].TargetGroupArn != awsfake.GateTargets {
		t.Fatalf("listeners: %+v, %v", listeners, err)
	}
	idle, err := client.DescribeListenerAttributes(ctx, &elasticloadbalancingv2.DescribeListenerAttributesInput{ListenerArn: listeners.Listeners[0].ListenerArn})
	if err != nil || *idle.Attributes[0].Value != "350" {
		t.Errorf("listener's attributes: %+v, %v", idle, err)
	}
	if _, err = client.DescribeLoadBalancers(ctx, &elasticloadbalancingv2.DescribeLoadBalancersInput{LoadBalancerArns: []string{"arn:other"}}); code(t, err) != "LoadBalancerNotFound" {
		t.Errorf("an unknown load balancer is answered with %v", err)
	}
}

func TestARefusedActionIsNamed(t *testing.T) {
	a := awsfake.Correct()
	a.Denied = []string{"ec2:DescribeSubnets", "elasticloadbalancing:DescribeListeners", "ssm:GetParameter", "s3:GetObject"}
	_, cfg := serve(t, a)
	_, err := ec2.NewFromConfig(cfg).DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
	if code(t, err) != "UnauthorizedOperation" || !strings.Contains(err.Error(), "ec2:DescribeSubnets") {
		t.Error(err)
	}
	_, err = elasticloadbalancingv2.NewFromConfig(cfg).DescribeListeners(t.Context(), &elasticloadbalancingv2.DescribeListenersInput{})
	if code(t, err) != "AccessDenied" {
		t.Error(err)
	}
	_, err = ssm.NewFromConfig(cfg).GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/gate/host_key")})
	if code(t, err) != "AccessDeniedException" {
		t.Error(err)
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	_, err = client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(awsfake.GateBucket), Key: aws.String("policy.yaml")})
	if code(t, err) != "AccessDenied" {
		t.Error(err)
	}
}

func TestAConnectionIsAcceptedOnce(t *testing.T) {
	a := awsfake.Correct()
	a.Services[0].Connections[0].State = "pendingAcceptance"
	_, cfg := serve(t, a)
	client := ec2.NewFromConfig(cfg)
	in := &ec2.AcceptVpcEndpointConnectionsInput{ServiceId: aws.String(awsfake.GateService), VpcEndpointIds: []string{awsfake.GateEndpoint, "vpce-0"}}
	out, err := client.AcceptVpcEndpointConnections(t.Context(), in)
	if err != nil || len(out.Unsuccessful) != 1 || *out.Unsuccessful[0].ResourceId != "vpce-0" || *out.Unsuccessful[0].Error.Code != "InvalidVpcEndpointId.NotFound" {
		t.Errorf("accepted: %+v, %v", out, err)
	}
	if out, err = client.AcceptVpcEndpointConnections(t.Context(), in); err != nil || len(out.Unsuccessful) != 2 {
		t.Errorf("accepted again: %+v, %v", out, err)
	}
}

func TestSecretsAndObjectsReadBack(t *testing.T) {
	a := awsfake.Correct()
	a.Parameters["/gate/host_key"], a.Secrets["gate/host_key"] = "key one", "key two"
	a.Buckets[0].Objects["fleet/policy.yaml"] = []byte("rules: []\n")
	_, cfg := serve(t, a)
	ctx := t.Context()
	parameter, err := ssm.NewFromConfig(cfg).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/gate/host_key"), WithDecryption: aws.Bool(true)})
	if err != nil || *parameter.Parameter.Value != "key one" {
		t.Errorf("parameter: %+v, %v", parameter, err)
	}
	secret, err := secretsmanager.NewFromConfig(cfg).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("gate/host_key")})
	if err != nil || *secret.SecretString != "key two" {
		t.Errorf("secret: %+v, %v", secret, err)
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	in := &s3.GetObjectInput{Bucket: aws.String(awsfake.GateBucket), Key: aws.String("fleet/policy.yaml")}
	object, err := client.GetObject(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(object.Body); err != nil || string(body) != "rules: []\n" {
		t.Errorf("object: %q, %v", body, err)
	}
	in.IfNoneMatch = object.ETag
	if _, err = client.GetObject(ctx, in); code(t, err) != "NotModified" {
		t.Errorf("an unchanged object: %v", err)
	}
	lock, err := client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: aws.String(awsfake.GateBucket)})
	if err != nil || *lock.ObjectLockConfiguration.Rule.DefaultRetention.Days != 365 {
		t.Errorf("lock: %+v, %v", lock, err)
	}
	if versioning, err := client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: aws.String(awsfake.GateBucket)}); err != nil || versioning.Status != "Enabled" {
		t.Errorf("versioning: %+v, %v", versioning, err)
	}
}

func TestIMDSWantsAToken(t *testing.T) {
	m := awsfake.NewIMDS(awsfake.Correct())
	defer m.Close()
	response, err := http.Get(m.URL + "/latest/meta-data/instance-id")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %s", response.Status)
	}
	client := imds.New(imds.Options{Endpoint: m.URL, ClientEnableState: imds.ClientEnabled})
	document, err := client.GetInstanceIdentityDocument(t.Context(), nil)
	if err != nil || document.InstanceID != awsfake.GateInstance || document.AccountID != awsfake.OwnAccount || document.Region != "us-east-1" {
		t.Errorf("identity document: %+v, %v", document, err)
	}
	for path, want := range map[string]string{
		"mac":                            "0a:10:00:00:00:1a",
		"placement/availability-zone-id": "use1-az1",
		"network/interfaces/macs/0a:10:00:00:00:1a/security-group-ids": awsfake.GateSG,
		"autoscaling/target-lifecycle-state":                           "InService",
	} {
		out, err := client.GetMetadata(t.Context(), &imds.GetMetadataInput{Path: path})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got, err := io.ReadAll(out.Content); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", path, got, err, want)
		}
	}
	if _, err := client.GetMetadata(t.Context(), &imds.GetMetadataInput{Path: "spot/instance-action"}); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("spot/instance-action: %v", err)
	}
	if !slices.Contains(m.Paths(), "/latest/meta-data/mac") {
		t.Error("the service does not remember what it was asked for")
	}
}
