package privatelink

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"postern/test/awsfake"
)

func TestWhatNamesASecret(t *testing.T) {
	for reference, want := range map[string]bool{
		"aws-ssm:/gate/host_key": true, "aws-secretsmanager:gate/host_ca": true,
		"aws-secretsmanager:arn:aws:secretsmanager:us-east-1:222233334444:secret:gate-AbCdEf": true,
		"aws-ssm:": false, "aws-secretsmanager:": false, "/etc/aws-ssm:x": false, "": false, "AWS-SSM:x": false,
	} {
		if got := IsSecret(reference); got != want {
			t.Errorf("%q: %t", reference, got)
		}
	}
}

func TestSecretsAreReadFromBothStores(t *testing.T) {
	a := awsfake.Correct()
	a.Parameters["/gate/host_key"], a.Secrets["gate/host_ca"] = "key one", "key two"
	_, _, client := fake(t, a)
	for reference, want := range map[string]string{"aws-ssm:/gate/host_key": "key one", "aws-secretsmanager:gate/host_ca": "key two"} {
		if got, err := client.Secret(t.Context(), reference); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", reference, got, err)
		}
	}
}

func TestASecretThatIsNotThereOrNotAllowedIsNotWaitedFor(t *testing.T) {
	a := awsfake.Correct()
	a.Secrets["gate/host_ca"] = "key"
	a.Denied = []string{"secretsmanager:GetSecretValue"}
	_, _, client := fake(t, a)
	for reference, c := range map[string][2]string{
		"aws-ssm:/gate/host_key":          {ReasonNotFound, "ssm:GetParameter"},
		"aws-secretsmanager:gate/host_ca": {ReasonDenied, "allow secretsmanager:GetSecretValue"},
		"/etc/ssh/ssh_host_rsa_key":       {ReasonOther, "aws-ssm:NAME"},
	} {
		if _, err := client.Secret(t.Context(), reference); Reason(err) != c[0] || !strings.Contains(err.Error(), c[1]) || !strings.Contains(err.Error(), reference) {
			t.Errorf("%s: reason %s, %v", reference, Reason(err), err)
		}
	}
}

func TestASecretIsWaitedForWhileAWSIsDown(t *testing.T) {
	a := awsfake.Correct()
	a.Parameters["/gate/host_key"] = "key one"
	server, _, client := fake(t, a)
	server.Fail(awsfake.Fault{Service: "ssm", Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable", Times: attempts + 1})
	if got, err := client.Secret(t.Context(), "aws-ssm:/gate/host_key"); err != nil || string(got) != "key one" {
		t.Errorf("%q, %v", got, err)
	}
	server.Fail(awsfake.Fault{Service: "ssm", Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.Secret(ctx, "aws-ssm:/gate/host_key"); Reason(err) != ReasonUnreachable {
		t.Errorf("without an answer: %v", err)
	}
}

func TestASecretWithoutAValueIsNone(t *testing.T) {
	a := awsfake.Correct()
	a.Parameters["empty"], a.Secrets["empty"] = "", ""
	_, _, client := fake(t, a)
	for _, reference := range []string{"aws-ssm:empty", "aws-secretsmanager:empty"} {
		if got, err := client.secret(t.Context(), reference); err == nil {
			t.Errorf("%s: %q", reference, got)
		}
	}
}
