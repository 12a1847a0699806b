package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"go.uber.org/zap"

	"postern/internal/admission"
	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/privatelink"
)

const viaAWS = "AWS"

// joined are the admission rules of c with what AWS says added, and without the
// endpoints of which AWS says that they are no longer connected: a connection
// that was open before goes on otherwise.
func joined(c *config.Config, v privatelink.View) admission.Options {
	o := c.Admission
	if c.AWS == nil || o.ProxyProtocol != admission.ProxyRequired {
		return o
	}
	o.LoadBalancers, o.Endpoints = slices.Clone(o.LoadBalancers), slices.Clone(o.Endpoints)
	for _, a := range v.Addresses.Value {
		if p := netip.PrefixFrom(a, a.BitLen()); !slices.Contains(o.LoadBalancers, p) {
			o.LoadBalancers = append(o.LoadBalancers, p)
		}
	}
	for _, e := range v.Endpoints.Value {
		listed := slices.Contains(o.Endpoints, e.ID)
		switch {
		case e.Allowed(c.AWS.EndpointOwners) && !listed:
			o.Endpoints = append(o.Endpoints, e.ID)
		case !e.Available() && listed:
			o.Endpoints = slices.DeleteFunc(o.Endpoints, func(id string) bool { return id == e.ID })
		}
	}
	return o
}

// view is what AWS said by now; nothing where it is not asked.
func (r *rules) view() privatelink.View {
	if r.follower == nil {
		return privatelink.View{}
	}
	return r.follower.View()
}

// admit puts admission rules in force for new connections. The caller holds mu,
// or is alone, and has the live sessions decided anew.
func (r *rules) admit(o admission.Options) error {
	if err := r.admission.Update(o); err != nil {
		return err
	}
	r.metrics.SetEndpoints(o.Endpoints)
	r.admitted = o
	return nil
}

// discovered puts in force what AWS says now. Sessions through endpoints that
// are no longer allowed are being closed when it returns.
func (r *rules) discovered(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := joined(r.config, r.view())
	change := changeOf(r.admitted, o)
	if len(change) == 0 {
		return
	}
	// The change is made even where its event could not be written, as in
	// reloadConfig.
	_ = r.write(ctx, audit.Event{Code: audit.AdmissionChange, Message: "admission rules follow AWS: " + strings.Join(summary(change), ", "),
		Admin: ownProcess("admission.change", viaAWS), File: "admission", Policy: r.policy.Version, Extra: change})
	if err := r.admit(o); err != nil {
		r.log.Error("what AWS says makes no admission rules", zap.Error(err))
		return
	}
	r.log.Info("admission rules follow AWS", zap.Strings("change", summary(change)))
	r.server.Recheck()
}

// changeOf names what was added and removed; it is empty where nothing was.
func changeOf(old, now admission.Options) map[string]any {
	change := map[string]any{}
	put := func(name string, list []string) {
		if len(list) > 0 {
			change[name] = list
		}
	}
	put("endpoints_added", missing(now.Endpoints, old.Endpoints))
	put("endpoints_removed", missing(old.Endpoints, now.Endpoints))
	put("load_balancers_added", missing(prefixes(now), prefixes(old)))
	put("load_balancers_removed", missing(prefixes(old), prefixes(now)))
	return change
}

// missing are the elements of list that from lacks.
func missing(list, from []string) (out []string) {
	for _, s := range list {
		if !slices.Contains(from, s) {
			out = append(out, s)
		}
	}
	return out
}

func prefixes(o admission.Options) (out []string) {
	for _, p := range o.LoadBalancers {
		out = append(out, p.String())
	}
	return out
}

// summary is a change in the order of its names: "endpoints removed: vpce-1".
func summary(change map[string]any) (out []string) {
	for _, name := range []string{"endpoints_removed", "endpoints_added", "load_balancers_removed", "load_balancers_added"} {
		if list, ok := change[name].([]string); ok {
			out = append(out, strings.ReplaceAll(name, "_", " ")+": "+strings.Join(list, " "))
		}
	}
	return out
}

// knowsBalancer is the readiness of a gate that learns from AWS where its load
// balancer is. That no endpoint may connect is no reason to be unready: it is so
// until the first one is accepted, and an Auto Scaling group would replace the
// instance meanwhile.
func (r *rules) knowsBalancer() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.admitted.LoadBalancers) == 0 {
		return errors.New("no address of the load balancer is known, by the list or from AWS")
	}
	return nil
}
