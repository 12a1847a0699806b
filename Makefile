# make help prints what there is. Everything runs on a fresh Debian machine
# with Go 1.26; make test installs the other tools it uses where it may.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS   += --no-print-directory

VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= $(if $(filter true,$(CI)),10s,5s)
# The story tests run a daemon with the race detector where nobody waits.
POSTERN_RACE ?= $(if $(filter true,$(CI)),1,0)

export CI FUZZTIME POSTERN_RACE

.DEFAULT_GOAL := help

.PHONY: help
help: ## print the targets
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 12

.PHONY: build
build: go ## build bin/postern
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/postern ./cmd/agent

.PHONY: run
run: build ## build, then run the demo: everything on loopback, Ctrl-C ends it
	./bin/postern demo

.PHONY: test
test: go tools lint unit e2e fuzz ## everything: linters, unit, story and fuzz tests

.PHONY: go
go:
	@test/check-go

.PHONY: tools
tools: ## install the programs that the tests use (Debian packages, as root)
	@test/install-tools

.PHONY: lint
lint: ## gofmt, go vet, staticcheck; cfn-lint where it is installed
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo 'run gofmt -w on these files' >&2; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	@test/lint-cloudformation

# A skipped test is a failure when CI=true: report sees to it.
.PHONY: unit
unit: ## unit tests and the rules of the house, with the race detector
	go test -race -json $$(go list ./... | grep -v -e '/test/e2e$$' -e '/test/boot$$') | go run ./test/tools/report

.PHONY: e2e
e2e: ## stories: the built daemon and real clients; RUN=Stories/name picks one
	go test -json -count=1 -parallel=4 -timeout=12m $(if $(RUN),-run '$(RUN)') ./test/e2e | go run ./test/tools/report

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (5s; 10s when CI=true)
	@test/fuzz $(FUZZTIME)

.PHONY: bench
bench: build ## OpenSSH's sshd and the gate side by side: table of ratios
	go run ./test/bench

.PHONY: packages
packages: go ## build DEB and RPM for amd64 and arm64, bills of materials and SHA256SUMS in dist/
	packaging/build $(VERSION)

.PHONY: boot
boot: go tools ## boot a Debian in a container, install by cloud-init, upgrade, remove (root; ~5 minutes the first time)
	POSTERN_BOOT=1 go test -count=1 -v -timeout=30m ./test/boot

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
