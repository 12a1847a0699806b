package config

import (
	"fmt"
	"net/netip"

	"postern/internal/admission"
)

// admittedEndpoint reads an endpoint ID, or * for any.
func admittedEndpoint(v value) (string, bool) {
	if s, ok := v.text(); !ok || s == admission.AnyEndpoint {
		return s, ok
	}
	return endpoint(v)
}

func endpoint(v value) (string, bool) {
	return form(`vpce-[0-9A-Za-z]{1,64}`, "the ID of a VPC endpoint (vpce-0a1b2c3d4e5f60718)")(v)
}

// checkAdmission checks what the keys of admission: say together.
func (d *decoder) checkAdmission(c *Config) {
	a := &c.Admission
	switch a.ProxyProtocol {
	case admission.ProxyRequired:
		if c.AWS == nil || c.AWS.LoadBalancer == "" {
			d.wanted(c, "admission.load_balancers", len(a.LoadBalancers), a.LoadBalancers == nil)
		}
		if c.AWS == nil || c.AWS.EndpointService == "" {
			d.wanted(c, "admission.endpoints", len(a.Endpoints), a.Endpoints == nil)
		}
	case admission.ProxyOff:
		d.pointless("admission.load_balancers", len(a.LoadBalancers))
		d.pointless("admission.endpoints", len(a.Endpoints))
	}
	d.wanted(c, "admission.sources", len(a.Sources), false)
}

// loadBalancer reads the addresses of a load balancer, which say whose
// connection it is and are believed.
func loadBalancer(v value) (netip.Prefix, bool) {
	p, ok := prefix(v)
	if ok && p.Bits() == 0 {
		v.fault("%s would let anybody claim any client address; list the addresses or subnets of the load balancer", p)
		return netip.Prefix{}, false
	}
	return p, ok
}

// wanted takes an empty list for a warning, because someone wrote it on
// purpose, and a missing one for a fault.
func (d *decoder) wanted(c *Config, path string, n int, missing bool) {
	switch {
	case missing && d.at[path] == nil:
		d.faultAt(path, "missing; it has no default", "")
	case n == 0:
		c.Warnings = append(c.Warnings, path+": empty, so nobody can connect")
	}
}

func (d *decoder) pointless(path string, n int) {
	if n > 0 {
		d.faultAt(path, "has no meaning with proxy_protocol: off, where the peer itself is the client; leave it out, or write proxy_protocol: required", "")
	}
}

// checkListeners checks the listening addresses against each other, and that
// metrics are not open to the network by accident.
func (d *decoder) checkListeners(c *Config) {
	gate, _ := parseListen(c.Listen)
	health, _ := parseListen(c.Health.Listen)
	metrics, _ := parseListen(c.Metrics.Listen)
	if collide(health, gate) {
		d.faultAt("health.listen", fmt.Sprintf("%s is taken by listen (%s); the load balancer checks health at a port of its own", c.Health.Listen, c.Listen), "")
	}
	if collide(metrics, gate) {
		d.faultAt("metrics.listen", fmt.Sprintf("%s is taken by listen (%s)", c.Metrics.Listen, c.Listen), "")
	}
	if collide(metrics, health) {
		d.faultAt("metrics.listen", fmt.Sprintf("%s is taken by health.listen (%s)", c.Metrics.Listen, c.Health.Listen), "")
	}
	if !metrics.Addr().IsLoopback() && c.Metrics.Options.WebConfig == "" {
		d.faultAt("metrics.listen", fmt.Sprintf("%s is open to the network without TLS or a password; set metrics.web_config, or listen on 127.0.0.1:%d", c.Metrics.Listen, metrics.Port()),
			"metrics.web_config is a Prometheus web configuration file: tls_server_config and basic_auth_users")
	}
}

// collide reports whether both can't be listened on: the same port, which is
// not left to the system, at the same address or at every address of one.
func collide(a, b netip.AddrPort) bool {
	if a.Port() != b.Port() || a.Port() == 0 {
		return false
	}
	return a.Addr().Unmap() == b.Addr().Unmap() || everywhere(a.Addr()) || everywhere(b.Addr())
}

// everywhere reports whether addr is no address or an unspecified one.
func everywhere(addr netip.Addr) bool { return !addr.IsValid() || addr.IsUnspecified() }
