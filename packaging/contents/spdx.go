package main

import (
	"errors"
	"os"
	"strings"
)

// phrases tell the licences apart that our modules have. The order matters:
// what is rarer stands first.
var phrases = []struct{ id, phrase string }{
	{"Apache-2.0", "apache license version 2.0"},
	{"MPL-2.0", "mozilla public license version 2.0"},
	{"BSD-3-Clause", "neither the name of"},
	{"BSD-3-Clause", "names of its contributors may not be used to endorse"},
	{"BSD-2-Clause", "redistributions in binary form must reproduce the above copyright"},
	{"ISC", "permission to use, copy, modify, and/or distribute this software for any purpose"},
	{"MIT", "permission is hereby granted, free of charge, to any person obtaining a copy"},
}

// licenceOf returns the SPDX identifier of the licence in a module's folder.
func licenceOf(dir string) (string, error) {
	files, err := above(dir, dir)
	if err != nil {
		return "", err
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		if id := identify(string(b)); id != "" {
			return id, nil
		}
	}
	return "", errors.New("its licence is none that is known here")
}

// identify returns the SPDX identifier of a licence's text, "" = unknown.
func identify(text string) string {
	words := strings.Join(strings.Fields(strings.ToLower(text)), " ")
	words = strings.ReplaceAll(words, "license, version", "license version")
	for _, p := range phrases {
		if strings.Contains(words, p.phrase) {
			return p.id
		}
	}
	return ""
}
