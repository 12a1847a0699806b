package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"postern/test/awsfake"
)

// cfnTemplate evaluates a CloudFormation template as far as postern.yaml goes.
type cfnTemplate struct {
	t          *testing.T
	root       map[string]any
	values     map[string]string // of parameters, resources and their attributes
	conditions map[string]bool
}

// tagged is a function of CloudFormation: !Ref, !Sub ...
type tagged struct {
	name string
	arg  any
}

func loadTemplate(t *testing.T, parameters map[string]string) *cfnTemplate {
	t.Helper()
	b, err := os.ReadFile("../../packaging/cloudformation/postern.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		t.Fatal(err)
	}
	x := &cfnTemplate{t: t, values: map[string]string{
		"AWS::StackName": awsfake.GateGroup, "AWS::Region": "us-east-1", "AWS::Partition": "aws", "AWS::AccountId": awsfake.OwnAccount,
		"LoadBalancer": awsfake.GateBalancer, "TargetGroup": awsfake.GateTargets, "EndpointService": awsfake.GateService,
		"BastionSecurityGroup": awsfake.GateSG, "BalancerSecurityGroup": awsfake.BalancerSG, "ArchiveBucket": awsfake.GateBucket,
		"ArchiveBucket.Arn": "arn:aws:s3:::" + awsfake.GateBucket, "EventLog": "/postern/gate",
		"BalancerSubnetA.CidrBlock": "10.0.1.0/24", "BalancerSubnetB.CidrBlock": "10.0.2.0/24",
	}}
	x.root = plainValue(n.Content[0]).(map[string]any)
	for name, p := range x.root["Parameters"].(map[string]any) {
		if v, ok := p.(map[string]any)["Default"]; ok {
			x.values[name] = fmt.Sprint(v)
		}
	}
	for name, v := range parameters {
		x.values[name] = v
	}
	x.conditions = map[string]bool{"NewVpc": x.values["ExistingVpc"] == "", "SecondCidr": x.values["VendorClientCidr2"] != "", "SharedKeys": x.values["KeyParameters"] != "",
		"SharedPolicy": x.values["PolicyKey"] != "", "KmsKey": x.values["SigningKeyInKms"] == "yes", "KnownHosts": x.values["KnownHostsKey"] != ""}
	return x
}

func plainValue(n *yaml.Node) any {
	var v any
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			m[n.Content[i].Value] = plainValue(n.Content[i+1])
		}
		v = m
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			list = append(list, plainValue(c))
		}
		v = list
	default:
		v = n.Value
	}
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		return tagged{strings.TrimPrefix(n.Tag, "!"), v}
	}
	return v
}

// eval returns a string, a list or a map; nil for AWS::NoValue.
func (x *cfnTemplate) eval(v any) any {
	switch v := v.(type) {
	case tagged:
		return x.call(v)
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			out[k] = x.eval(e)
		}
		return out
	case []any:
		out := []any{}
		for _, e := range v {
			if e := x.eval(e); e != nil {
				out = append(out, e)
			}
		}
		return out
	}
	return v
}

func (x *cfnTemplate) call(f tagged) any {
	switch arg, _ := f.arg.([]any); f.name {
	case "Ref", "GetAtt":
		name := f.arg.(string)
		if name == "AWS::NoValue" {
			return nil
		}
		if v, ok := x.values[name]; ok {
			return v
		}
		return name // what nothing here depends on
	case "If":
		if x.conditions[arg[0].(string)] {
			return x.eval(arg[1])
		}
		return x.eval(arg[2])
	case "Join":
		var all []string
		for _, e := range x.eval(arg[1]).([]any) {
			all = append(all, e.(string))
		}
		return strings.Join(all, arg[0].(string))
	case "Sub":
		return x.sub(f.arg)
	}
	x.t.Fatalf("the test does not know !%s", f.name)
	return nil
}

func (x *cfnTemplate) sub(arg any) string {
	text, ok := arg.(string)
	local := map[string]any{}
	if !ok {
		text = arg.([]any)[0].(string)
		local = arg.([]any)[1].(map[string]any)
	}
	return regexp.MustCompile(`\$\{([^}]+)\}`).ReplaceAllStringFunc(text, func(s string) string {
		name := s[2 : len(s)-1]
		if v, ok := local[name]; ok {
			return x.eval(v).(string)
		}
		v, ok := x.values[name]
		if !ok {
			x.t.Errorf("${%s} is not known", name)
		}
		return v
	})
}

// properties are those of a resource.
func (x *cfnTemplate) properties(name string) map[string]any {
	r, ok := x.root["Resources"].(map[string]any)[name].(map[string]any)
	if !ok {
		x.t.Fatalf("the template has no %s", name)
	}
	return x.eval(r["Properties"]).(map[string]any)
}

func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			v = v.(map[string]any)[p]
		case int:
			v = v.([]any)[p]
		}
	}
	return v
}

func number(v any) int {
	n, err := strconv.Atoi(fmt.Sprint(v))
	if err != nil {
		return -1
	}
	return n
}

func keyValues(v any) map[string]string {
	out := map[string]string{}
	for _, e := range v.([]any) {
		out[at(e, "Key").(string)] = at(e, "Value").(string)
	}
	return out
}

// apply makes the account what the template makes it.
func (x *cfnTemplate) apply(a *awsfake.Account) {
	b, p := &a.LoadBalancers[0], x.properties("LoadBalancer")
	b.Type, b.Scheme, b.Enforce = at(p, "Type").(string), at(p, "Scheme").(string), at(p, "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic").(string)
	b.Groups, b.Attributes = []string{at(p, "SecurityGroups", 0).(string)}, keyValues(p["LoadBalancerAttributes"])

	l := x.properties("Listener")
	b.Listeners[0].Protocol, b.Listeners[0].Port, b.Listeners[0].Attributes = at(l, "Protocol").(string), number(l["Port"]), keyValues(l["ListenerAttributes"])
	b.Listeners[0].Actions[0].TargetGroup = at(l, "DefaultActions", 0, "TargetGroupArn").(string)

	g, p := &a.TargetGroups[0], x.properties("TargetGroup")
	g.Protocol, g.Port, g.TargetType, g.Attributes = at(p, "Protocol").(string), number(p["Port"]), at(p, "TargetType").(string), keyValues(p["TargetGroupAttributes"])
	g.Check = awsfake.HealthCheck{Enabled: true, Protocol: at(p, "HealthCheckProtocol").(string), Port: at(p, "HealthCheckPort").(string),
		Path: at(p, "HealthCheckPath").(string), Matcher: at(p, "Matcher", "HttpCode").(string), Interval: number(p["HealthCheckIntervalSeconds"]),
		Timeout: number(p["HealthCheckTimeoutSeconds"]), Healthy: number(p["HealthyThresholdCount"]), Unhealthy: number(p["UnhealthyThresholdCount"])}

	a.Services[0].Acceptance = at(x.properties("EndpointService"), "AcceptanceRequired") == "true"
	a.Services[0].Balancers = []string{at(x.properties("EndpointService"), "NetworkLoadBalancerArns", 0).(string)}
	a.Services[0].Principals = []awsfake.Principal{{ARN: at(x.properties("EndpointServicePermissions"), "AllowedPrincipals", 0).(string), Type: "Account"}}
	a.SecurityRules = x.securityRules()

	template := at(x.properties("LaunchTemplate"), "LaunchTemplateData")
	for i := range a.Instances {
		a.Instances[i].Tokens = at(template, "MetadataOptions", "HttpTokens").(string)
		if at(template, "NetworkInterfaces", 0, "AssociatePublicIpAddress") != "false" {
			a.Interfaces[0].PublicIP = "203.0.113.1"
		}
	}
	lock := x.properties("ArchiveBucket")
	a.Buckets[0] = awsfake.Bucket{Name: awsfake.GateBucket, Lock: at(lock, "ObjectLockConfiguration", "ObjectLockEnabled") == "Enabled",
		Mode: at(lock, "ObjectLockConfiguration", "Rule", "DefaultRetention", "Mode").(string), Versioning: at(lock, "VersioningConfiguration", "Status").(string),
		Days: number(at(lock, "ObjectLockConfiguration", "Rule", "DefaultRetention", "Days"))}
	hook := at(x.properties("BastionGroup"), "LifecycleHookSpecificationList", 0)
	a.LifecycleHooks = []awsfake.LifecycleHook{{Name: at(hook, "LifecycleHookName").(string), Group: at(x.properties("BastionGroup"), "AutoScalingGroupName").(string),
		Transition: at(hook, "LifecycleTransition").(string), Heartbeat: number(at(hook, "HeartbeatTimeout"))}}
	a.Endpoints[0].Policy = ""
	vpc := x.properties("Vpc")
	a.VPCs[0].DNSSupport, a.VPCs[0].DNSHostnames = vpc["EnableDnsSupport"] == "true", vpc["EnableDnsHostnames"] == "true"
}

func (x *cfnTemplate) securityRules() []awsfake.SecurityRule {
	var all []awsfake.SecurityRule
	add := func(group string, egress bool, r any) {
		m := r.(map[string]any)
		text := func(key string) string { s, _ := m[key].(string); return s }
		all = append(all, awsfake.SecurityRule{ID: fmt.Sprintf("sgr-%017d", len(all)), Group: group, Egress: egress, Protocol: text("IpProtocol"),
			From: number(m["FromPort"]), To: number(m["ToPort"]), CIDR: text("CidrIp"), FromGroup: text("SourceSecurityGroupId") + text("DestinationSecurityGroupId")})
	}
	for _, name := range []string{"BalancerSecurityGroup", "BastionSecurityGroup"} {
		p := x.properties(name)
		for key, egress := range map[string]bool{"SecurityGroupIngress": false, "SecurityGroupEgress": true} {
			rules, _ := p[key].([]any)
			for _, r := range rules {
				add(x.values[name], egress, r)
			}
		}
	}
	for _, name := range []string{"BastionSshIngress", "BastionHealthIngress"} {
		p := x.properties(name)
		add(p["GroupId"].(string), false, p)
	}
	return all
}

// postern is the configuration that the user data of a bastion writes.
func (x *cfnTemplate) postern() string {
	data := at(x.properties("LaunchTemplate"), "LaunchTemplateData", "UserData", "Fn::Base64").(string)
	var cloud struct {
		Files    []struct{ Path, Content string } `yaml:"write_files"`
		Commands []string                         `yaml:"runcmd"`
	}
	if err := yaml.Unmarshal([]byte(data), &cloud); err != nil {
		x.t.Fatalf("the user data are no cloud-config: %v\n%s", err, data)
	}
	for _, script := range cloud.Commands {
		if out, err := exec.Command("sh", "-n", "-c", script).CombinedOutput(); err != nil || !strings.HasPrefix(script, "set -eu\n") {
			x.t.Errorf("the user data run what is no script: %v\n%s\n%s", err, out, script)
		}
	}
	for _, f := range cloud.Files {
		if f.Path == defaultConfig {
			return f.Content
		}
	}
	x.t.Fatal("the user data write no postern.yaml")
	return ""
}

// allowed lists the actions of the bastion's role.
func (x *cfnTemplate) allowed() []string {
	var all []string
	for _, s := range at(x.properties("BastionRole"), "Policies", 0, "PolicyDocument", "Statement").([]any) {
		switch actions := at(s, "Action").(type) {
		case string:
			all = append(all, actions)
		case []any:
			for _, a := range actions {
				all = append(all, a.(string))
			}
		}
	}
	return all
}

// TestTheDoctorFindsNothingWrongWithTheTemplate makes an account of the
// template's resources and lets a bastion in it look, with the configuration
// that its user data write and no more rights than its role has.
func TestTheDoctorFindsNothingWrongWithTheTemplate(t *testing.T) {
	common := map[string]string{"VendorAccount": awsfake.VendorAccount, "VendorClientCidr": awsfake.VendorCIDR, "ConfigBucket": "config", "PackageSha256": strings.Repeat("0", 64)}
	for name, more := range map[string]map[string]string{
		"a new VPC":                     {},
		"an existing VPC":               {"ExistingVpc": awsfake.GateVPC, "ExistingSubnetA": "subnet-0a100000000000a1", "ExistingSubnetB": "subnet-0a100000000000b1"},
		"a fleet with keys kept in AWS": {"SigningKeyInKms": "yes", "KeyParameters": "/gate", "PolicyKey": "policy.yaml", "KnownHostsKey": "known_hosts", "VendorClientCidr2": "10.21.0.0/16"},
	} {
		t.Run(name, func(t *testing.T) {
			fake, account := awsfake.New(), awsfake.Correct()
			t.Cleanup(fake.Close)
			fake.Account(account)
			parameters := map[string]string{}
			for _, m := range []map[string]string{common, more} {
				for k, v := range m {
					parameters[k] = v
				}
			}
			x := loadTemplate(t, parameters)
			key := x.properties("SigningKey")
			x.values["SigningKey.Arn"] = fake.KMS().Make(key["KeySpec"].(string), key["KeyUsage"].(string))
			x.apply(account)
			serveAccount(t, fake, account)
			checkDoctorOn(t, x.postern())
			checkRole(t, x.allowed(), fake.Calls())
		})
	}
}

// serveAccount makes this process a bastion of the account.
func serveAccount(t *testing.T, fake *awsfake.Server, account *awsfake.Account) {
	t.Helper()
	imds := awsfake.NewIMDS(account)
	t.Cleanup(imds.Close)
	for _, env := range append(fake.Env(), imds.Env()...) {
		name, value, _ := strings.Cut(env, "=")
		t.Setenv(name, value)
	}
}

func checkDoctorOn(t *testing.T, postern string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "postern.yaml")
	if err := os.WriteFile(path, []byte(postern), 0o600); err != nil {
		t.Fatal(err)
	}
	var d diagnosis
	var out, errs strings.Builder
	command([]string{"doctor", "--json", "--config", path}, &env{stdout: &out, stderr: &errs})
	if err := json.Unmarshal([]byte(out.String()), &d); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errs.String())
	}
	for _, r := range d.Checks {
		// The policy is not there and neither is a gate: this is not the bastion.
		if r.Status != "ok" && !strings.HasPrefix(r.ID, "host.") && r.ID != "config.policy" {
			t.Errorf("%s is %s: %s\n%s", r.ID, r.Status, r.Saw, postern)
		}
	}
	if len(d.Checks) < 60 || len(d.Gaps) > 0 {
		t.Errorf("there are only %d checks, and not looked at was %v", len(d.Checks), d.Gaps)
	}
}

// checkRole compares the calls with what the role may do. S3's have no names.
func checkRole(t *testing.T, allowed, calls []string) {
	t.Helper()
	for _, call := range calls {
		service, operation, _ := strings.Cut(call, " ")
		if service != "s3" && service != "sts" && !slices.Contains(allowed, service+":"+operation) {
			t.Errorf("the role does not allow %s:%s", service, operation)
		}
	}
	for _, action := range []string{"s3:GetBucketObjectLockConfiguration", "s3:GetBucketVersioning", "s3:PutObject"} {
		if !slices.Contains(allowed, action) {
			t.Errorf("the role does not allow %s", action)
		}
	}
	for _, action := range allowed {
		for _, never := range []string{"Delete", "Bypass", "PutBucket", "ModifyVpcEndpointService", "*"} {
			if strings.Contains(action, never) {
				t.Errorf("the role allows %s", action)
			}
		}
	}
}

func TestTheTemplatesNetworkIsWhole(t *testing.T) {
	x := loadTemplate(t, nil)
	if _, err := netip.ParsePrefix(x.values["VpcCidr"]); err != nil {
		t.Error(err)
	}
	routed := map[string]bool{}
	for name, r := range x.root["Resources"].(map[string]any) {
		if at(r, "Type") == "AWS::EC2::SubnetRouteTableAssociation" {
			routed[strings.TrimSuffix(name, "Routes")] = true
		}
	}
	for name, r := range x.root["Resources"].(map[string]any) {
		if at(r, "Type") == "AWS::EC2::Subnet" && (!routed[name] || at(r, "Properties", "MapPublicIpOnLaunch") != "false") {
			t.Errorf("%s has no route table of its own, or gives public addresses", name)
		}
	}
}

func TestEachParameterIsExplained(t *testing.T) {
	guide, err := os.ReadFile("../../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postern", "vendor"} {
		b, err := os.ReadFile("../../packaging/cloudformation/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		var n yaml.Node
		if err := yaml.Unmarshal(b, &n); err != nil {
			t.Fatal(err)
		}
		root := plainValue(n.Content[0])
		for parameter, p := range at(root, "Parameters").(map[string]any) {
			if d, _ := at(p, "Description").(string); len(d) < 10 {
				t.Errorf("%s.yaml does not describe %s", name, parameter)
			}
			if name == "postern" && !strings.Contains(string(guide), "`"+parameter+"`") {
				t.Errorf("docs/aws.md does not explain %s", parameter)
			}
			if !strings.Contains(strings.ReplaceAll(string(b), "  "+parameter+":", ""), parameter) {
				t.Errorf("%s.yaml does not use %s", name, parameter)
			}
		}
	}
}
