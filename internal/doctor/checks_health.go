package doctor

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

func healthChecks() []check {
	known := []need{groupKnown}
	return []check{
		{id: "health.protocol", title: "health checks are what the gate's health port speaks",
			why:  "a TCP check says nothing of the gate: systemd holds the port open while the daemon is dead",
			when: hasBalancer, needs: known, look: healthProtocol},
		{id: "health.port", title: "health checks go to the gate's health port",
			why:  "the SSH port does not answer them",
			when: hasBalancer, needs: known, look: healthPort},
		{id: "health.path", title: "health checks ask /readyz",
			why:  "/livez stays good while the gate drains or can't write its audit log, other paths do not exist",
			when: hasBalancer, needs: known, look: healthPath},
		{id: "health.codes", title: "only the answer 200 is healthy",
			why:  "the default takes everything up to 399, so whatever redirects on that port would be healthy",
			when: hasBalancer, needs: known, look: healthCodes},
		{id: "health.timing", title: "the load balancer notices a drain before the gate stops accepting",
			why:  "what it sends after that is refused",
			when: hasBalancer, needs: known, look: healthTiming},
	}
}

func (s *Snapshot) check(flag, value string) string {
	return s.aws("elbv2 modify-target-group --target-group-arn %s --%s %s", s.group().ARN, flag, value)
}

func healthProtocol(s *Snapshot) verdict {
	want, c := "HTTP", s.group().Check
	if s.Setup.Gate.HealthTLS {
		want = "HTTPS"
	}
	if c.Protocol == want {
		return good("%s", want)
	}
	saw := fmt.Sprintf("%s, the gate answers %s", c.Protocol, want)
	return bad(saw, s.check("health-check-protocol", want)+" --health-check-path /readyz --matcher HttpCode=200")
}

func healthPort(s *Snapshot) verdict {
	c, want := s.group().Check, strconv.Itoa(int(s.Setup.Gate.HealthPort))
	if c.Port == want {
		return good("%s", want)
	}
	return bad(fmt.Sprintf("%s, the gate answers on %s (health.listen)", c.Port, want), s.check("health-check-port", want))
}

func healthPath(s *Snapshot) verdict {
	c := s.group().Check
	switch {
	case c.Protocol == "TCP":
		return good("none: the protocol is TCP") // health.protocol says so
	case c.Path == "/readyz":
		return good("/readyz")
	case c.Path == "/livez":
		return doubtful("they ask /livez", s.check("health-check-path", "/readyz"))
	}
	return bad(c.Path+", which the gate does not have", s.check("health-check-path", "/readyz"))
}

func healthCodes(s *Snapshot) verdict {
	c := s.group().Check
	switch {
	case c.Protocol == "TCP":
		return good("none: the protocol is TCP")
	case c.Codes == "200":
		return good("200")
	case accepts(c.Codes, 503):
		return bad(c.Codes+": an answer that the gate is not ready may be healthy", s.check("matcher", "HttpCode=200"))
	}
	return doubtful(c.Codes+" are healthy", s.check("matcher", "HttpCode=200"))
}

func healthTiming(s *Snapshot) verdict {
	c, settle := s.group().Check, s.Setup.Gate.DrainSettle
	notices := c.Interval * time.Duration(c.Unhealthy)
	saw := fmt.Sprintf("unhealthy after %d x %s, drain.settle is %s", c.Unhealthy, c.Interval, settle)
	if notices <= settle {
		return good("%s", saw)
	}
	return doubtful(saw, s.check("health-check-interval-seconds", "10")+" --unhealthy-threshold-count 3", fmt.Sprintf("or drain.settle: %s in postern.yaml", notices))
}

// accepts reads the codes of a health check: 200,302 or 200-399.
func accepts(codes string, code int) bool {
	for part := range strings.SplitSeq(codes, ",") {
		low, high, ranged := strings.Cut(part, "-")
		if !ranged {
			high = low
		}
		from, err1 := strconv.Atoi(low)
		to, err2 := strconv.Atoi(high)
		if err1 == nil && err2 == nil && from <= code && code <= to {
			return true
		}
	}
	return false
}

func drainChecks() []check {
	known := []need{groupKnown, attributesKnown}
	return []check{
		{id: "drain.termination", title: "sessions of an unhealthy bastion go on",
			why:  "by default the load balancer resets every connection of a target that turns unhealthy, and a drain turns it unhealthy",
			when: hasBalancer, needs: known, look: termination},
		{id: "drain.unhealthy-interval", title: "sessions of an unhealthy bastion have as long as the gate gives them",
			why:  "the load balancer keeps connections of an unhealthy target for this interval",
			when: hasBalancer, needs: known, look: drainingInterval},
		{id: "drain.delay", title: "deregistration waits for the load balancer to have stopped",
			why:  "new connections still come for up to two minutes after a target is deregistered; one that is gone by then refuses them",
			when: hasBalancer, needs: known, look: delay},
		{id: "drain.delay-termination", title: "deregistration cuts no session",
			why:  "with termination on, every session is cut when the delay is over",
			when: hasBalancer, needs: known, look: delayTermination},
	}
}

func termination(s *Snapshot) verdict {
	// Where the attribute is missing its default holds: true.
	if s.attribute(attrTermination) == "false" {
		return good("connection termination is off")
	}
	return bad("connection termination is on", s.set(attrTermination, "false"))
}

func drainingInterval(s *Snapshot) verdict {
	have, want := s.seconds(attrDraining), s.Setup.Gate.DrainTimeout
	if have >= want || s.attribute(attrTermination) != "false" {
		return good("%s, drain.timeout is %s", have, want)
	}
	return doubtful(fmt.Sprintf("%s, drain.timeout is %s", have, want), s.set(attrDraining, strconv.Itoa(int(min(want, 360_000*time.Second).Seconds()))))
}

func (s *Snapshot) seconds(attribute string) time.Duration {
	n, err := strconv.Atoi(s.attribute(attribute))
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// leastDelay is what a load balancer may take to stop after a deregistration.
const leastDelay = 2 * time.Minute

func delay(s *Snapshot) verdict {
	have := s.seconds(attrDelay)
	if have >= leastDelay {
		return good("%s", have)
	}
	return doubtful(fmt.Sprintf("%s, want at least %s", have, leastDelay), s.set(attrDelay, "300"))
}

func delayTermination(s *Snapshot) verdict {
	if s.attribute(attrDelayTermination) != "true" {
		return good("off")
	}
	return bad(fmt.Sprintf("on: sessions end %s after the deregistration, drain.timeout is %s", s.seconds(attrDelay), s.Setup.Gate.DrainTimeout), s.set(attrDelayTermination, "false"))
}
