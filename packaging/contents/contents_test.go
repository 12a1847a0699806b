package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryModuleComesWithItsLicence(t *testing.T) {
	t.Chdir("../..")
	var out bytes.Buffer
	if err := run([]string{"licenses", "./cmd/agent"}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nGo 1.", "\ngithub.com/alecthomas/kong v", "\ngolang.org/x/crypto v", "Permission is hereby granted", "Neither the name of"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q", want)
		}
	}
	var again bytes.Buffer
	if err := run([]string{"licenses", "./cmd/agent"}, &again); err != nil || again.String() != out.String() {
		t.Errorf("the second time it says something else: %v", err)
	}
}

func TestAModuleWithoutALicenceIsAnError(t *testing.T) {
	if _, err := group(map[string][]string{"example.com/a v1.0.0": nil}); err == nil || !strings.Contains(err.Error(), "example.com/a") {
		t.Errorf("%v", err)
	}
}

func TestTextsThatAreTheSameAreWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	files := map[string][]string{}
	for _, m := range []string{"b", "a"} {
		path := filepath.Join(dir, m)
		if err := os.WriteFile(path, []byte("as you like\r\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		files[m] = []string{path}
	}
	texts, err := group(files)
	if err != nil || len(texts) != 1 || texts[0].body != "as you like" || strings.Join(texts[0].modules, " ") != "a b" {
		t.Errorf("%+v, %v", texts, err)
	}
}

func TestLicencesAreKnownByTheirWords(t *testing.T) {
	for text, want := range map[string]string{
		"Apache License\n   Version 2.0, January 2004":                                                         "Apache-2.0",
		"Permission is hereby granted, free of charge,\nto any person obtaining a copy":                        "MIT",
		"Neither the name of Google":                                                                           "BSD-3-Clause",
		"2. Redistributions in binary form must reproduce the above copyright notice":                          "BSD-2-Clause",
		"Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee": "ISC",
		"all rights reserved": "",
	} {
		if got := identify(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestUsageIsAnError(t *testing.T) {
	for _, args := range [][]string{nil, {"licenses"}, {"sbom", "x"}, {"other", "x"}} {
		if err := run(args, &bytes.Buffer{}); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
