package awsfake

import (
	"fmt"
	"net/http"
	"slices"
)

// autoscaling answers as Auto Scaling's query protocol does, version 2011-01-01.
func (a *Account) autoscaling(c call) (int, []byte) {
	if status, body, is := a.denied(c, "autoscaling:"+c.Operation); is {
		return status, body
	}
	group := c.Get("AutoScalingGroupName")
	switch c.Operation {
	case "DescribeLifecycleHooks":
		hooks := slices.DeleteFunc(slices.Clone(a.LifecycleHooks), func(h LifecycleHook) bool { return h.Group != group })
		return scalingReply(c, "<LifecycleHooks>"+elements("member", hooks)+"</LifecycleHooks>")
	case "CompleteLifecycleAction", "RecordLifecycleActionHeartbeat":
		action := LifecycleAction{Operation: c.Operation, Group: group, Hook: c.Get("LifecycleHookName"),
			Instance: c.Get("InstanceId"), Result: c.Get("LifecycleActionResult")}
		a.LifecycleResult = append(a.LifecycleResult, action)
		if a.Metadata.LifecycleState != "Terminated" || !slices.ContainsFunc(a.LifecycleHooks, func(h LifecycleHook) bool {
			return h.Group == action.Group && h.Name == action.Hook
		}) {
			return c.fail(http.StatusBadRequest, "ValidationError", "No active Lifecycle Action found with instance ID %s", action.Instance)
		}
		return scalingReply(c, "")
	}
	return c.fail(http.StatusBadRequest, "InvalidAction", "Could not find operation %s for version 2011-01-01", c.Operation)
}

func scalingReply(c call, inner string) (int, []byte) {
	return http.StatusOK, fmt.Appendf(nil, `<%[1]sResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">`+
		`<%[1]sResult>%[2]s</%[1]sResult><ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata></%[1]sResponse>`,
		c.Operation, inner)
}

// sts answers who the caller is, which needs no permission.
func (a *Account) sts(c call) (int, []byte) {
	if c.Operation != "GetCallerIdentity" {
		return c.fail(http.StatusBadRequest, "InvalidAction", "Could not find operation %s for version 2011-06-15", c.Operation)
	}
	return http.StatusOK, fmt.Appendf(nil, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>`+
		`<Arn>arn:aws:sts::%[1]s:assumed-role/gate/%[2]s</Arn><UserId>AROAEXAMPLE:%[2]s</UserId><Account>%[1]s</Account></GetCallerIdentityResult>`+
		`<ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata></GetCallerIdentityResponse>`, a.ID, a.Self)
}
