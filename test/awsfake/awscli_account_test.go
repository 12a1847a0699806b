package awsfake_test

import (
	"encoding/json"
	"strings"
	"testing"

	"postern/test/awsfake"
)

// TestAWSOwnToolReadsTheAccount has what the SDK for Go reads read a second time,
// by a tool that was made from AWS's models and not by us. Each call's answer
// must have what the gate or the doctor look at.
func TestAWSOwnToolReadsTheAccount(t *testing.T) {
	a := awsfake.Correct()
	a.Parameters["/gate/host_key"], a.Secrets["gate/host_key"] = "key", "key"
	server := awsfake.New()
	t.Cleanup(server.Close)
	server.Account(a)
	for call, want := range map[string]string{
		"ec2 describe-network-interfaces --filters Name=interface-type,Values=network_load_balancer": `"PrivateIpAddress": "10.0.2.25"`,
		"ec2 describe-vpc-endpoint-connections":                                                      `"VpcEndpointState": "available"`,
		"ec2 describe-vpc-endpoint-service-configurations":                                           `"AcceptanceRequired": true`,
		"ec2 describe-vpc-endpoint-service-permissions --service-id " + awsfake.GateService:          `"Principal": "arn:aws:iam::111122223333:root"`,
		"ec2 describe-vpc-endpoints":                                                                 `"RouteTableIds": [ "rtb-0a100000000000001" ]`,
		"ec2 describe-subnets":                                                                       `"AvailabilityZoneId": "use1-az2"`,
		"ec2 describe-route-tables":                                                                  `"DestinationPrefixListId": "pl-63a5400a"`,
		"ec2 describe-network-acls":                                                                  `"RuleNumber": 32767`,
		"ec2 describe-security-group-rules":                                                          `"ReferencedGroupInfo": { "GroupId": "` + awsfake.BalancerSG,
		"ec2 describe-instances":                                                                     `"HttpTokens": "required"`,
		"ec2 describe-prefix-lists":                                                                  `"PrefixListName": "com.amazonaws.us-east-1.s3"`,
		"ec2 describe-vpc-attribute --attribute enableDnsSupport --vpc-id " + awsfake.GateVPC:        `"EnableDnsSupport": { "Value": true`,
		"elbv2 describe-load-balancers":                                                              `"Code": "active"`,
		"elbv2 describe-load-balancer-attributes --load-balancer-arn " + awsfake.GateBalancer:        `"load_balancing.cross_zone.enabled"`,
		"elbv2 describe-listeners --load-balancer-arn " + awsfake.GateBalancer:                       `"Port": 22`,
		"elbv2 describe-target-groups":                                                               `"HttpCode": "200"`,
		"elbv2 describe-target-group-attributes --target-group-arn " + awsfake.GateTargets:           `"proxy_protocol_v2.enabled"`,
		"elbv2 describe-target-health --target-group-arn " + awsfake.GateTargets:                     `"State": "healthy"`,
		"autoscaling describe-lifecycle-hooks --auto-scaling-group-name " + awsfake.GateGroup:        `"LifecycleHookName": "postern-drain"`,
		"ssm get-parameter --with-decryption --name /gate/host_key":                                  `"Value": "key"`,
		"secretsmanager get-secret-value --secret-id gate/host_key":                                  `"SecretString": "key"`,
		"sts get-caller-identity":                                                                    `"Account": "222233334444"`,
		"s3api get-object-lock-configuration --bucket gate-archive":                                  `"Mode": "COMPLIANCE"`,
		"s3api get-bucket-versioning --bucket gate-archive":                                          `"Status": "Enabled"`,
	} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			var out json.RawMessage
			awscli(t, server, &out, strings.Fields(call)...)
			if got := strings.Join(strings.Fields(string(out)), " "); !strings.Contains(got, want) {
				t.Errorf("no %s in %.600s", want, got)
			}
		})
	}
}
