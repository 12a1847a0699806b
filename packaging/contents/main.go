// Contents says what a program is made of, for the packages:
//
//	contents licenses ./cmd/agent      the licence texts of all that is linked in
//	contents sbom dist/postern 1.0.0   a CycloneDX bill of materials of a binary
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "contents:", err)
		os.Exit(1)
	}
}

func run(args []string, w io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "licenses":
		return licenses(w, args[1])
	case len(args) == 3 && args[0] == "sbom":
		return sbom(w, args[1], args[2])
	}
	return errors.New("usage: contents licenses PACKAGE | sbom BINARY VERSION")
}
