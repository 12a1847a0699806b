package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"postern/internal/config"
	"postern/internal/doctor"
)

// hostCheck is one question to a host. Most wait for a configuration.
type hostCheck struct {
	id, title, why string
	always         bool // it is answered without a configuration, too
	look           func(*host) doctor.Result
}

func hostChecks() []hostCheck {
	return []hostCheck{
		{"config.file", "postern.yaml and the files that it names are good", "serve refuses to start with a fault, and keeps the old configuration at a reload", true, configFile},
		{"config.policy", "policy.yaml is good", "with a fault nothing of it counts: serve refuses to start, a reload keeps the old one", false, policyFile},
		{"config.warnings", "everything that is set is meant", "an empty list of admission lets nobody in, and a key that does nothing protects nothing", false, configWarnings},
		{"host.port", "the gate's port is free, or the gate's", "sshd has port 22 on a new host; two can't have it", true, sshPort},
		{"host.ready", "the gate runs and is ready", "the load balancer asks the same, and sends nobody to a gate that is not", false, isReady},
		{"host.clock", "the clock is kept right", "certificates, rules with hours, the audit log and AWS's signatures go by it", true, hostClock},
		{"host.audit-disk", "there is room for the audit log", "with less than audit.min_free nobody is let in", false,
			func(h *host) doctor.Result { return h.audit.room(h.config.Audit.MinFree, "audit.min_free") }},
		{"host.recordings-disk", "there is room for recordings", "with less than recordings.min_free no recording begins, and no inspected session", false,
			func(h *host) doctor.Result {
				return h.recorded.room(uint64(h.config.Recordings.MinFree), "recordings.min_free")
			}},
		{"host.host-keys", "the host keys are the gate's own, and nobody else's", "who has one can pose as the gate", false, hostKeysGood},
		{"host.mtu", "packets are of a usual size", "PrivateLink passes at most 8500 bytes and tells nobody of what it drops; TCP is kept below by AWS, and SSH is TCP", true, mtu},
	}
}

// check answers all questions, in a fixed order.
func (h *host) check() []doctor.Result {
	var all []doctor.Result
	for _, c := range hostChecks() {
		r := doctor.Result{Status: doctor.Unknown, Saw: "waits for config.file", Mend: []string{"mend config.file first"}, WaitsFor: "config.file"}
		if c.always || h.config != nil {
			r = c.look(h)
		}
		r.ID, r.Title, r.Why = c.id, c.title, c.why
		all = append(all, r)
	}
	return all
}

func hostResult(status doctor.Status, saw string, mend ...string) doctor.Result {
	return doctor.Result{Status: status, Saw: saw, Mend: mend}
}

func configFile(h *host) doctor.Result {
	if h.configErr == nil {
		return hostResult(doctor.OK, h.configPath)
	}
	status := doctor.Fail
	if errors.Is(h.configErr, fs.ErrPermission) {
		status = doctor.Unknown
	}
	return hostResult(status, firstFaults(h.configErr), "postern check --config "+h.configPath+"   # shows every fault")
}

// firstFaults is a fault or two of many: check shows them all.
func firstFaults(err error) string {
	faults, ok := errors.AsType[config.Errors](err)
	if !ok {
		return err.Error()
	}
	var all []string
	for _, f := range faults[:min(2, len(faults))] {
		all = append(all, fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Msg))
	}
	if more := len(faults) - len(all); more > 0 {
		all = append(all, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, "; ")
}

func policyFile(h *host) doctor.Result {
	switch {
	case h.policyErr == nil:
		return hostResult(doctor.OK, h.config.PolicyPath)
	case h.config.PolicyObject != "" && errors.Is(h.policyErr, fs.ErrNotExist):
		return hostResult(doctor.OK, h.config.PolicyObject+", not copied to this host yet")
	}
	status := doctor.Fail
	if errors.Is(h.policyErr, fs.ErrPermission) {
		status = doctor.Unknown
	}
	return hostResult(status, firstFaults(h.policyErr), "postern check --policy "+h.config.PolicyPath+"   # shows every fault")
}

func configWarnings(h *host) doctor.Result {
	all := h.config.Warnings
	if len(all) == 0 {
		return hostResult(doctor.OK, "no warnings")
	}
	return hostResult(doctor.Warn, strings.Join(all, "; "), "correct "+h.configPath+", then: postern check && systemctl reload postern")
}

// What gate and init are called in the process table.
const gateName, initName = "postern", "systemd"

func sshPort(h *host) doctor.Result {
	named := func(name string) bool {
		return slices.ContainsFunc(h.port, func(p holder) bool { return p.name == name })
	}
	switch {
	case errors.Is(h.portErr, errUnseen):
		return hostResult(doctor.Unknown, h.portErr.Error(), "sudo postern doctor")
	case h.portErr != nil:
		return hostResult(doctor.Unknown, h.portErr.Error(), "ss -ltnp")
	case len(h.port) == 0:
		return hostResult(doctor.OK, "nobody has it")
	case named(gateName):
		return hostResult(doctor.OK, "the gate has it")
	case named(initName) && len(h.port) == 1:
		return h.heldBySystemd()
	}
	return hostResult(doctor.Fail, holdersWords(h.port)+" has it", h.freePort()...)
}

func holdersWords(all []holder) string {
	var words []string
	for _, h := range all {
		words = append(words, h.String())
	}
	return strings.Join(words, ", ")
}

// freePort is how the port gets free.
func (h *host) freePort() []string {
	if slices.ContainsFunc(h.port, func(p holder) bool { return strings.HasPrefix(p.name, "sshd") }) {
		return []string{"postern take-port-22   # moves sshd to 127.0.0.1:2200, where SSM Session Manager still gets to it; --dry-run says how"}
	}
	return []string{"ss -ltnp   # what is it? Stop it, or set listen in postern.yaml"}
}

// heldBySystemd tells the gate's socket unit from sshd's by which is enabled.
func (h *host) heldBySystemd() doctor.Result {
	if h.socketUnit {
		return hostResult(doctor.OK, "postern.socket has it")
	}
	return hostResult(doctor.Warn, "systemd has it, and postern.socket is not enabled", "systemctl list-sockets   # whose is it?",
		"postern take-port-22   # if it is sshd's", "systemctl enable --now postern.socket postern.service")
}

func isReady(h *host) doctor.Result {
	switch r := h.ready; {
	case r.err != nil:
		return hostResult(doctor.Warn, "nobody answers at "+h.config.Health.Listen, "systemctl enable --now postern.socket postern.service", "journalctl -u postern")
	case r.status == 200:
		return hostResult(doctor.OK, "/readyz says so")
	default:
		return hostResult(doctor.Fail, fmt.Sprintf("/readyz answers %d: %s", r.status, r.body), "mend what it names: docs/operator.md, When something is wrong", "journalctl -u postern")
	}
}

func hostClock(h *host) doctor.Result {
	switch {
	case h.clockErr != nil:
		return hostResult(doctor.Unknown, h.clockErr.Error(), "timedatectl")
	case !h.synced:
		return hostResult(doctor.Warn, "nothing keeps it right, says the kernel", "systemctl enable --now chronyd || timedatectl set-ntp true", "timedatectl")
	}
	return hostResult(doctor.OK, "synchronised, says the kernel")
}

func (d disk) room(least uint64, setting string) doctor.Result {
	mend := []string{"df -h " + d.dir, "give it a larger file system of its own, or keep less: audit.retention_days"}
	if d.err != nil {
		return hostResult(doctor.Unknown, d.err.Error(), "df -h "+d.dir)
	}
	saw := fmt.Sprintf("%s free at %s, %s is %s", byteCount(int64(d.free)), d.dir, setting, byteCount(int64(least)))
	switch {
	case d.free < least:
		return hostResult(doctor.Fail, saw, mend...)
	case d.free < 2*least:
		return hostResult(doctor.Warn, saw, mend...)
	}
	return hostResult(doctor.OK, saw)
}

func hostKeysGood(h *host) doctor.Result {
	for _, k := range h.keys {
		switch {
		case errors.Is(k.err, fs.ErrNotExist): // made at the first start
		case errors.Is(k.err, fs.ErrPermission):
			return hostResult(doctor.Unknown, k.path+" can't be read by this user", "sudo postern doctor")
		case k.err != nil:
			return hostResult(doctor.Fail, fmt.Sprintf("%s: %v", k.path, k.err), "mv "+k.path+" "+k.path+".bad   # a new one is made at the next start; clients must be told of it")
		case k.open:
			return hostResult(doctor.Fail, k.path+" can be read by others", "chmod 600 "+k.path, "if others were on this host, make a new one")
		case k.system != "":
			return hostResult(doctor.Warn, k.path+" is the key in "+k.system, "mv "+k.path+" "+k.path+".sshd   # a new one is made at the next start; clients must be told of it")
		}
	}
	return hostResult(doctor.OK, strings.Join(h.config.SSH.HostKeys, ", "))
}

// leastMTU is what IPv6 needs (RFC 8200, section 5).
const leastMTU = 1280

func mtu(h *host) doctor.Result {
	var all []string
	for _, l := range h.links {
		all = append(all, fmt.Sprintf("%s %d", l.name, l.mtu))
		if l.mtu < leastMTU {
			return hostResult(doctor.Warn, fmt.Sprintf("%s has an MTU of %d", l.name, l.mtu), fmt.Sprintf("ip link set %s mtu 1500", l.name))
		}
	}
	return hostResult(doctor.OK, strings.Join(all, ", "))
}
