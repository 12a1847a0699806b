package doctor

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/test/awsfake"
)

// actions are the IAM actions that the doctor's questions need. Who the caller
// is may everybody ask.
func actions() []string {
	return []string{
		"autoscaling:DescribeLifecycleHooks",
		"ec2:DescribeInstances", "ec2:DescribeNetworkAcls", "ec2:DescribeNetworkInterfaces", "ec2:DescribeRouteTables",
		"ec2:DescribeSecurityGroupRules", "ec2:DescribeSubnets", "ec2:DescribeVpcAttribute", "ec2:DescribeVpcEndpointConnections",
		"ec2:DescribeVpcEndpointServiceConfigurations", "ec2:DescribeVpcEndpointServicePermissions", "ec2:DescribeVpcEndpoints",
		"elasticloadbalancing:DescribeListenerAttributes", "elasticloadbalancing:DescribeListeners",
		"elasticloadbalancing:DescribeLoadBalancerAttributes", "elasticloadbalancing:DescribeLoadBalancers",
		"elasticloadbalancing:DescribeTargetGroupAttributes", "elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth",
		"kms:GetPublicKey", "kms:Sign", "s3:GetBucketObjectLockConfiguration", "s3:GetBucketVersioning",
	}
}

func TestOnlyTheListedActionsAreAsked(t *testing.T) {
	w := newWorld(t)
	w.examine(t)
	var asked []string
	for _, call := range w.aws.Calls() {
		service, operation, _ := strings.Cut(call, " ")
		if service != "s3" && service != "sts" { // REST has no names, and sts needs no permission
			asked = append(asked, service+":"+operation)
		}
	}
	slices.Sort(asked)
	want := slices.DeleteFunc(actions(), func(a string) bool { return strings.HasPrefix(a, "s3:") })
	if asked = slices.Compact(asked); !slices.Equal(asked, want) {
		t.Errorf("asked for\n%q\nwant\n%q", asked, want)
	}
}

func TestTheDocumentAllowsEveryAction(t *testing.T) {
	b, err := os.ReadFile("../../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range actions() {
		if !strings.Contains(string(b), `"`+action+`"`) {
			t.Errorf("the policy in docs/aws.md does not allow %s", action)
		}
	}
}

// TestAMissingPermissionIsNamed takes away one permission at a time. What
// depends on it is unknown and names it; nothing else changes.
func TestAMissingPermissionIsNamed(t *testing.T) {
	for _, action := range actions() {
		if strings.HasPrefix(action, "kms:") {
			continue // see below
		}
		t.Run(action, func(t *testing.T) {
			w := newWorld(t)
			w.Denied = []string{action}
			w.LoadBalancers[0].Attributes[attrCrossZone] = "false" // so that zones matter
			named := 0
			for _, r := range w.examine(t) {
				switch {
				case r.Status == OK:
				case r.Status != Unknown || r.Action != action && r.ID != "targets.zones":
					t.Errorf("%s is %s: %s", r.ID, r.Status, r.Saw)
				case !strings.Contains(r.Saw, action) || !strings.Contains(strings.Join(r.Mend, "\n"), `"Action":"`+action+`"`):
					t.Errorf("%s does not name the action: %s; %q", r.ID, r.Saw, r.Mend)
				default:
					named++
				}
			}
			if named == 0 {
				t.Error("no check misses it")
			}
		})
	}
}

func TestAKeyThatMayNotBeReadIsUnknown(t *testing.T) {
	w := newWorld(t)
	w.aws.Fail(awsfake.Fault{Service: "kms", Operation: "GetPublicKey", Status: 400, Code: "AccessDeniedException", Message: "no"})
	r := find(t, w.examine(t), "kms.key")
	if r.Status != Unknown || r.Action != "kms:GetPublicKey" {
		t.Errorf("got %s %q: %s", r.Status, r.Action, r.Saw)
	}
}

func find(t *testing.T, all []Result, id string) Result {
	t.Helper()
	i := slices.IndexFunc(all, func(r Result) bool { return r.ID == id })
	if i < 0 {
		t.Fatalf("there is no %s", id)
	}
	return all[i]
}

// TestAWSInTroubleIsNoVerdict breaks every answer in one way. Nothing may be
// called good or bad then, and everything must say what to do.
func TestAWSInTroubleIsNoVerdict(t *testing.T) {
	for _, trouble := range []struct {
		name  string
		fault awsfake.Fault
		says  string
	}{
		{"throttled", awsfake.Fault{Status: 503, Code: "RequestLimitExceeded", Message: "Request limit exceeded."}, "throttled"},
		{"internal error", awsfake.Fault{Status: 500, Code: "InternalError", Message: "An internal error has occurred"}, "InternalError"},
		{"a proxy's page", awsfake.Fault{HTML: true, Status: 502}, "not AWS's"},
		{"cut off", awsfake.Fault{Truncate: 40}, ""},
		{"slow", awsfake.Fault{Delay: 5 * time.Second}, "no answer"},
		{"silent", awsfake.Fault{Hang: true}, "no answer"},
		{"credentials of nobody", awsfake.Fault{Status: 403, Code: "InvalidClientTokenId", Message: "The security token included in the request is invalid."}, "credentials"},
	} {
		t.Run(trouble.name, func(t *testing.T) {
			w := newWorld(t)
			w.aws.Fail(trouble.fault)
			said := 0
			p := patience{time.Second, 1500 * time.Millisecond}
			if trouble.fault.Status != 0 {
				p.call = 20 * time.Second // it is repeated, with a pause
			}
			for _, r := range collect(context.Background(), w.setup, p).Check() {
				if strings.Contains(r.Saw, trouble.says) {
					said++
				}
				local := slices.Contains([]string{"bastion.public-address", "aws.region"}, r.ID) // known without AWS's APIs
				if r.Status != Unknown && !local && r.ID != "aws.credentials" {
					t.Errorf("%s is %s: %s", r.ID, r.Status, r.Saw)
				}
				if r.Status == Unknown && len(r.Mend) == 0 {
					t.Errorf("%s does not say what to do: %s", r.ID, r.Saw)
				}
			}
			if said == 0 {
				t.Errorf("nothing says %q", trouble.says)
			}
		})
	}
}

func TestOneFailureIsRepeated(t *testing.T) {
	w := newWorld(t)
	for _, service := range []string{"ec2", "elasticloadbalancing", "s3", "kms", "sts"} {
		w.aws.Fail(awsfake.Fault{Service: service, Times: 1, Status: 503, Code: "ServiceUnavailable", Message: "try again"})
	}
	for _, r := range w.examine(t) {
		if r.Status != OK {
			t.Errorf("%s is %s: %s", r.ID, r.Status, r.Saw)
		}
	}
}

// TestTheDoctorIsDoneInHalfAMinute lets every stage and the metadata service
// hang, with a tenth of the patience.
func TestTheDoctorIsDoneInHalfAMinute(t *testing.T) {
	w := newWorld(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, operation := range []string{"DescribeLoadBalancerAttributes", "DescribeSubnets", "DescribeInstances"} {
		w.aws.Fail(awsfake.Fault{Operation: operation, Hang: true})
	}
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://"+silent.Addr().String())
	if total := operators().total(); total > 29*time.Second {
		t.Errorf("all may take %s", total)
	}
	tenth := patience{operators().metadata / 10, operators().call / 10}
	start := time.Now()
	s := collect(context.Background(), w.setup, tenth)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %s, a tenth of the time that there is is 3s", took)
	}
	if s.Place.Failure == nil || s.Place.Failure.Kind != Absent || s.Subnets.Failure == nil {
		t.Errorf("place %v, subnets %v", s.Place.Failure, s.Subnets.Failure)
	}
}

// TestAMetadataServiceThatBreaksIsNoNetwork has it fail after the first answer.
func TestAMetadataServiceThatBreaksIsNoNetwork(t *testing.T) {
	w := newWorld(t)
	real, err := url.Parse(w.imds.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(real)
	flaky := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/security-group-ids") {
			http.Error(rw, "503", http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	defer flaky.Close()
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", flaky.URL)
	for _, r := range w.examine(t) {
		if r.Status == Fail || r.Status == Warn {
			t.Errorf("%s is %s: %s", r.ID, r.Status, r.Saw)
		}
	}
}

func TestWithoutAnythingConfiguredNothingIsJudged(t *testing.T) {
	w := newWorld(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	w.setup = Setup{Region: "us-east-1"}
	s := w.look()
	if results := s.Check(); len(results) > 0 {
		t.Errorf("there is nothing to look at, and it says %v", results)
	}
	if gaps := s.Gaps(); len(gaps) != 3 {
		t.Errorf("load balancer, service and bastion were not looked at, and it says %v", gaps)
	}
}

func TestAGateThatNeedsNoCredentialsIsNotFailed(t *testing.T) {
	w := newWorld(t)
	w.setup = Setup{}
	w.aws.Fail(awsfake.Fault{Status: 403, Code: "InvalidClientTokenId", Message: "The security token included in the request is invalid."})
	for _, r := range w.examine(t) {
		if r.Status == Fail || r.Status == Warn {
			t.Errorf("%s is %s: %s", r.ID, r.Status, r.Saw)
		}
	}
}

func TestABastionCanBeLookedAtFromElsewhere(t *testing.T) {
	w := newWorld(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	w.setup.Instance = awsfake.GateInstance
	for _, r := range w.examine(t) {
		if r.Status != OK {
			t.Errorf("%s is %s: %s", r.ID, r.Status, r.Saw)
		}
	}
}

// TestAClockThatIsOffIsNamed lets the fake tell another time than it is.
func TestAClockThatIsOffIsNamed(t *testing.T) {
	for off, want := range map[time.Duration]Status{20 * time.Second: Warn, -20 * time.Second: Warn, 10 * time.Minute: Fail, -10 * time.Minute: Fail, time.Second: OK} {
		t.Run(fmt.Sprint(off), func(t *testing.T) {
			w := newWorld(t)
			w.aws.Serve("sts", func(r awsfake.Request) (int, []byte) {
				r.Header.Set("Date", time.Now().Add(-off).UTC().Format(http.TimeFormat))
				return http.StatusOK, []byte(`<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>` +
					`<Account>` + awsfake.OwnAccount + `</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
			})
			r := find(t, w.examine(t), "aws.clock")
			way := map[bool]string{true: "ahead", false: "behind"}[off > 0]
			if r.Status != want || want != OK && !strings.Contains(r.Saw, way) {
				t.Errorf("got %s: %s", r.Status, r.Saw)
			}
		})
	}
}

// TestFiltersThatAreIgnoredChangeNothing is for servers that stand in for AWS
// and take no notice of filters.
func TestFiltersThatAreIgnoredChangeNothing(t *testing.T) {
	w := newWorld(t)
	w.Unfiltered = true
	w.Services = append(w.Services, awsfake.EndpointService{ID: "vpce-svc-0f1", Connections: []awsfake.Connection{{Endpoint: "vpce-0f1", Owner: "777788889999", State: "available"}}})
	for _, r := range w.examine(t) {
		if r.Status != OK {
			t.Errorf("%s is %s: %s", r.ID, r.Status, r.Saw)
		}
	}
}
