package main

import (
	"io"
	"text/template"
)

// demoText is what the demo prints. A command stands on a line of its own that
// begins with four spaces; the test of the demo runs each.
const demoText = `A gate is running on loopback. It knows two identities: vendor, by its key, and
alice, by a certificate of a CA. Both come through endpoint {{.Endpoint}}.
Try this in another terminal:

Who am I, and what may I reach?
    ssh -F {{.Dir}}/ssh_config gate whoami
    ssh -F {{.Dir}}/ssh_config gate targets
    ssh -F {{.Dir}}/ssh_config alice whoami

To a machine behind it, with a plain jump or with the destination as the user
name. The gate logs in there with a certificate that it made for this session,
and records what is shown:
    ssh -F {{.Dir}}/ssh_config -J gate machine uptime
    ssh -F {{.Dir}}/ssh_config door rainbow
    echo put {{.Dir}}/policy.yaml /notes | sftp -F {{.Dir}}/ssh_config -J gate -b - machine
A shell, to look around in: ssh -F {{.Dir}}/ssh_config -J gate machine

What was recorded, what was on the screen, and the rainbow again:
    {{.Program}} recordings list --config {{.Dir}}/postern.yaml
    {{.Program}} recordings search --config {{.Dir}}/postern.yaml '42 days'
    {{.Program}} recordings play --config {{.Dir}}/postern.yaml $({{.Program}} recordings list --config {{.Dir}}/postern.yaml | awk '/rainbow/ {id = $1} END {print id}')

To services behind it, by opaque tunnels; the second command stays in the background:
    ssh -F {{.Dir}}/ssh_config -W 127.0.0.1:{{.BannerPort}} gate
    ssh -F {{.Dir}}/ssh_config -f -N -L 127.0.0.1:{{.LocalPort}}:127.0.0.1:{{.WebPort}} gate
    curl -s http://127.0.0.1:{{.LocalPort}}/
    {{.Program}} sessions --config {{.Dir}}/postern.yaml

Refused: the metadata service, a port that no rule lists, another endpoint:
    ssh -F {{.Dir}}/ssh_config -W 169.254.169.254:80 gate
    ssh -F {{.Dir}}/ssh_config -W 127.0.0.1:9 gate
    ssh -F {{.Dir}}/ssh_config stranger whoami

Why?
    {{.Program}} why vendor forward 169.254.169.254:80 --endpoint {{.Endpoint}} --config {{.Dir}}/postern.yaml

Cut the vendor off, see it refused, and let it in again:
    {{.Program}} freeze vendor --config {{.Dir}}/postern.yaml
    ssh -F {{.Dir}}/ssh_config gate whoami
    {{.Program}} freeze --lift vendor --config {{.Dir}}/postern.yaml

What operations and reviewers see:
    curl -s http://{{.Health}}/readyz
    curl -s http://{{.Metrics}}/metrics | grep ^postern_
    {{.Program}} audit tail --config {{.Dir}}/postern.yaml

The files are in {{.Dir}}: postern.yaml, policy.yaml (change it, it takes
effect within a second), the log of the gate postern.log, the audit log in audit/,
the recordings in recordings/.
Ctrl-C ends the demo.
`

func (d *demo) printText(w io.Writer) {
	values := struct {
		demoPlaces
		Program string
	}{d.demoPlaces, d.program}
	template.Must(template.New("demo").Parse(demoText)).Execute(w, values)
}
