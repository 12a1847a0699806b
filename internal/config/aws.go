package config

import (
	"path/filepath"
	"strings"
	"time"

	"postern/internal/admission"
	"postern/internal/privatelink"
)

// AWS is the aws: section.
type AWS struct {
	Region           string // "" = that of the load balancer, or from the instance metadata
	LoadBalancer     string // ARN; its addresses are added to admission.load_balancers
	EndpointService  string // vpce-svc-…; its endpoints are added to admission.endpoints
	EndpointOwners   []string
	AcceptEndpoints  bool
	Refresh          time.Duration
	AutoScalingGroup string // with LifecycleHook, or both ""
	LifecycleHook    string
}

func (c *Config) aws(v value) {
	a := &AWS{Refresh: time.Minute}
	c.AWS = a
	v.mapping(
		may("region", scalar(&a.Region, region)),
		may("load_balancer", scalar(&a.LoadBalancer, form(`arn:[a-z-]+:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:loadbalancer/net/[A-Za-z0-9-]+/[0-9a-f]+`,
			"the ARN of a Network Load Balancer (arn:aws:elasticloadbalancing:REGION:ACCOUNT:loadbalancer/net/NAME/ID)"))),
		may("endpoint_service", scalar(&a.EndpointService, form(`vpce-svc-[0-9a-z]{1,64}`, "the ID of an endpoint service (vpce-svc-...)"))),
		may("endpoint_owners", listOf(&a.EndpointOwners, form(`[0-9]{12}`, "an account number of 12 digits"))),
		may("accept_endpoints", scalar(&a.AcceptEndpoints, onOff)),
		may("refresh", scalar(&a.Refresh, duration(time.Second, 24*time.Hour))),
		may("auto_scaling_group", scalar(&a.AutoScalingGroup, form(`[^:\x00-\x1f]{1,255}`, "the name of an Auto Scaling group"))),
		may("lifecycle_hook", scalar(&a.LifecycleHook, form(`[A-Za-z0-9/_-]{1,255}`, "the name of a lifecycle hook"))),
	)
}

// policy reads the path of policy.yaml, or the object of S3 that it is a copy
// of.
func (c *Config) policy(v value) {
	s, ok := v.text()
	if !ok || !strings.HasPrefix(s, "s3:") {
		scalar(&c.PolicyPath, file)(v)
		return
	}
	if _, ok := privatelink.ParseObject(s); !ok {
		v.fault("%s is not an object of S3 (s3://BUCKET/KEY)", shown(s))
		return
	}
	c.PolicyObject = s
}

// policyCopy is where a policy from S3 is kept: in the folder of what else the
// gate remembers.
func (c *Config) policyCopy() string {
	return filepath.Join(filepath.Dir(c.Admin.Frozen), "policy-from-s3.yaml")
}

// secretOr lets the name of a secret in AWS through besides what parse accepts.
func secretOr(parse func(value) (string, bool)) func(value) (string, bool) {
	return func(v value) (string, bool) {
		s, ok := v.text()
		switch {
		case !ok:
			return "", false
		case privatelink.IsSecret(s):
			return s, true
		case strings.HasPrefix(s, "aws-"):
			v.fault("%s is not a secret in AWS (aws-ssm:NAME or aws-secretsmanager:ID)", shown(s))
			return "", false
		}
		return parse(v)
	}
}

// checkAWS checks what the keys of aws: say together, and with others.
func (d *decoder) checkAWS(c *Config) {
	if c.PolicyObject != "" {
		c.PolicyPath = c.policyCopy()
	}
	a := c.AWS
	if a == nil {
		return
	}
	d.checkRegion(a)
	switch off := c.Admission.ProxyProtocol == admission.ProxyOff; {
	case off && a.EndpointService != "":
		d.pointless("aws.endpoint_service", 1)
	case a.EndpointService == "" && len(a.EndpointOwners) > 0:
		d.faultAt("aws.endpoint_owners", "has no meaning without aws.endpoint_service", "")
	case a.EndpointService != "" && a.EndpointOwners == nil:
		d.faultAt("aws.endpoint_service", "aws.endpoint_owners is missing; without it no endpoint of the service is let in", "")
	}
	if a.AcceptEndpoints && len(a.EndpointOwners) == 0 {
		d.faultAt("aws.accept_endpoints", "has no meaning without aws.endpoint_service and aws.endpoint_owners", "")
	}
	if (a.AutoScalingGroup == "") != (a.LifecycleHook == "") {
		d.faultAt("aws", "auto_scaling_group and lifecycle_hook go together: set both, or none", "")
	}
}

// checkRegion takes the load balancer's region where none is set.
func (d *decoder) checkRegion(a *AWS) {
	if a.LoadBalancer == "" {
		return
	}
	of := strings.Split(a.LoadBalancer, ":")[3]
	if a.Region == "" {
		a.Region = of
	}
	if a.Region != of {
		d.faultAt("aws.load_balancer", "is in "+of+", and aws.region is "+a.Region, "")
	}
}
