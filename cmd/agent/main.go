// Command postern is the gate: the daemon (serve) and the commands that
// operators, reviewers and vendors use beside it.
package main

import (
	"io"
	"os"

	"github.com/alecthomas/kong"
)

const defaultConfig = "/etc/postern/postern.yaml"

// cli is the command line. Every command has its file and its Run.
type cli struct {
	Serve        serveCmd        `cmd:"" help:"Run the gate in the foreground."`
	Check        checkCmd        `cmd:"" help:"Check postern.yaml and policy.yaml and show every fault."`
	Doctor       doctorCmd       `cmd:"" help:"Say what is wrong with this host, its configuration and the way in through AWS, and what mends it."`
	Demo         demoCmd         `cmd:"" help:"Run a gate with keys, targets and a policy of its own on loopback, and print what to try."`
	Why          whyCmd          `cmd:"" help:"Say which rule allows a request, or why each rule does not."`
	Sessions     sessionsCmd     `cmd:"" help:"Show or cut the live sessions."`
	Freeze       freezeCmd       `cmd:"" help:"Cut an identity off now and until it is lifted."`
	Drain        drainCmd        `cmd:"" help:"Let the gate end: no new sessions, the live ones end by themselves."`
	Reload       reloadCmd       `cmd:"" help:"Read both files again."`
	Audit        auditCmd        `cmd:"" help:"Read the audit log."`
	Recordings   recordingsCmd   `cmd:"" help:"List, show, play, search and export what was recorded."`
	ClientConfig clientConfigCmd `cmd:"" name:"client-config" help:"Print the ssh_config and known_hosts lines for an identity."`
	TakePort     takePortCmd     `cmd:"" name:"take-port-22" help:"Move the system's sshd away from port 22, or back."`
	Completion   completionCmd   `cmd:"" help:"Print the completions of a shell."`
	Version      versionCmd      `cmd:"" help:"Print what this binary is."`
}

const description = `The gate of a bastion: it decides who may pass to which target, writes down what passes, and tells operations how it is doing.

Exit status: 0 fine, 1 something is wrong, 2 usage or could not be decided; serve: 78 for a fault in the configuration.`

// env is what a command may use of the process around it.
type env struct {
	stdout, stderr io.Writer
}

func main() {
	os.Exit(command(os.Args[1:], &env{stdout: os.Stdout, stderr: os.Stderr}))
}

// command runs one command line and returns the exit status.
func command(args []string, e *env) int {
	status := -1
	parser, err := kong.New(&cli{},
		kong.Name("postern"),
		kong.Description(description),
		kong.Writers(e.stdout, e.stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: false, WrapUpperBound: 100}),
		kong.Exit(func(code int) { status = code }), // --help
		kong.Bind(e),
		kong.Vars{"config": defaultConfig, "socket": defaultSocket},
	)
	if err != nil {
		return report(e.stderr, err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	c, err := parser.Parse(args)
	if status >= 0 {
		return status
	}
	if err != nil {
		return report(e.stderr, usage(err))
	}
	return report(e.stderr, c.Run())
}
