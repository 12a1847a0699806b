package awsfake

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// IMDS is the instance metadata service of the account's own instance, version
// 2: without a token it answers 401. Its methods may be called from any
// goroutine.
type IMDS struct {
	URL string // AWS_EC2_METADATA_SERVICE_ENDPOINT

	account *Account
	http    *httptest.Server

	mu     sync.Mutex
	tokens []string
	paths  []string // asked for with a token
	down   bool
}

// NewIMDS starts the metadata service; Close ends it.
func NewIMDS(a *Account) *IMDS {
	m := &IMDS{account: a}
	m.http = httptest.NewServer(http.HandlerFunc(m.serve))
	m.URL = m.http.URL
	return m
}

// Close ends the service.
func (m *IMDS) Close() {
	m.http.CloseClientConnections()
	m.http.Close()
}

// Env is what a process needs in its environment to find the service, after
// that of Server.Env.
func (m *IMDS) Env() []string {
	return []string{"AWS_EC2_METADATA_DISABLED=false", "AWS_EC2_METADATA_SERVICE_ENDPOINT=" + m.URL}
}

// Break makes every answer a 503 until it is called with false.
func (m *IMDS) Break(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

// Paths are those that were asked for with a token.
func (m *IMDS) Paths() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.paths)
}

func (m *IMDS) serve(w http.ResponseWriter, r *http.Request) {
	m.account.mu.Lock()
	defer m.account.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch token := r.Header.Get("X-Aws-Ec2-Metadata-Token"); {
	case m.down:
		http.Error(w, "503 - Service Unavailable", http.StatusServiceUnavailable)
	case r.URL.Path == "/latest/api/token":
		m.token(w, r)
	case token == "" && m.account.Metadata.V1:
		m.answer(w, r)
	case !slices.Contains(m.tokens, token):
		http.Error(w, "401 - Unauthorized", http.StatusUnauthorized)
	default:
		m.paths = append(m.paths, r.URL.Path)
		m.answer(w, r)
	}
}

func (m *IMDS) token(w http.ResponseWriter, r *http.Request) {
	const header = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	ttl, err := strconv.Atoi(r.Header.Get(header))
	switch {
	case r.Method != http.MethodPut:
		http.Error(w, "405 - Method Not Allowed", http.StatusMethodNotAllowed)
	case r.Header.Get("X-Forwarded-For") != "":
		http.Error(w, "403 - Forbidden", http.StatusForbidden)
	case err != nil || ttl < 1 || ttl > 21600:
		http.Error(w, "400 - Bad Request", http.StatusBadRequest)
	default:
		token := rand.Text()
		m.tokens = append(m.tokens, token)
		w.Header().Set(header, strconv.Itoa(ttl))
		fmt.Fprint(w, token)
	}
}

func (m *IMDS) answer(w http.ResponseWriter, r *http.Request) {
	path, metadata := strings.CutPrefix(strings.TrimSuffix(r.URL.Path, "/"), "/latest/meta-data/")
	if !metadata && r.URL.Path == "/latest/dynamic/instance-identity/document" {
		m.document(w)
		return
	}
	value, ok := m.account.metadata()[path]
	if !ok {
		http.Error(w, "404 - Not Found", http.StatusNotFound)
		return
	}
	fmt.Fprint(w, value)
}

func (m *IMDS) document(w http.ResponseWriter) {
	host := m.account.self()
	b, err := json.Marshal(map[string]any{"accountId": m.account.ID, "architecture": "arm64", "availabilityZone": host.Zone, "imageId": host.Image,
		"instanceId": host.ID, "instanceType": host.Type, "pendingTime": "2026-11-01T00:00:00Z", "privateIp": host.PrivateIP,
		"region": m.account.Region, "version": "2017-09-30"})
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(b) // the client may be gone
}

func (a *Account) self() Instance {
	if i := slices.IndexFunc(a.Instances, func(i Instance) bool { return i.ID == a.Self }); i >= 0 {
		return a.Instances[i]
	}
	return Instance{ID: a.Self}
}

// metadata is all that there is below /latest/meta-data/; what is missing is
// answered with 404.
func (a *Account) metadata() map[string]string {
	host := a.self()
	out := map[string]string{"instance-id": host.ID, "local-ipv4": host.PrivateIP, "placement/region": a.Region, "placement/availability-zone": host.Zone}
	optional := func(path, value string) {
		if value != "" {
			out[path] = value
		}
	}
	optional("autoscaling/target-lifecycle-state", a.Metadata.LifecycleState)
	optional("spot/instance-action", a.Metadata.SpotAction)
	optional("events/recommendations/rebalance", a.Metadata.Rebalance)
	optional("public-ipv4", host.PublicIP)
	for key, value := range a.Metadata.Tags {
		out["tags/instance/"+key] = value
	}
	optional("tags/instance", strings.Join(slices.Sorted(maps.Keys(a.Metadata.Tags)), "\n"))
	var macs []string
	for _, i := range a.Interfaces {
		if i.Instance != host.ID || host.ID == "" {
			continue
		}
		macs = append(macs, i.MAC+"/")
		a.interfaceMetadata(i, out)
	}
	optional("network/interfaces/macs", strings.Join(macs, "\n"))
	return out
}

func (a *Account) interfaceMetadata(i Interface, out map[string]string) {
	var groups, ips []string
	for _, g := range i.Groups {
		groups = append(groups, g.ID)
	}
	for _, p := range i.PrivateIPs {
		ips = append(ips, p.Address)
	}
	under := "network/interfaces/macs/" + i.MAC + "/"
	for path, value := range map[string]string{"interface-id": i.ID, "subnet-id": i.Subnet, "vpc-id": i.VPC, "owner-id": i.Owner,
		"security-group-ids": strings.Join(groups, "\n"), "local-ipv4s": strings.Join(ips, "\n"), "public-ipv4s": i.PublicIP} {
		if value != "" {
			out[under+path] = value
		}
	}
	if _, ok := out["mac"]; !ok {
		out["mac"], out["placement/availability-zone-id"] = i.MAC, i.ZoneID
	}
	for _, s := range a.Subnets {
		if s.ID == i.Subnet {
			out[under+"subnet-ipv4-cidr-block"] = s.CIDR
		}
	}
	for _, v := range a.VPCs {
		if v.ID == i.VPC {
			out[under+"vpc-ipv4-cidr-blocks"] = v.CIDR
		}
	}
}
