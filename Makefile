# Seaworthy. `make help` lists the targets; the README names the two that matter.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

ROOT     := $(CURDIR)
BIN      := $(ROOT)/.bin
SERVICES := gateway scanner signer verifier notifier
MODULES  := gen pkg $(addprefix services/,$(SERVICES)) cmd tests
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILDINFO := github.com/seaworthy-dev/seaworthy/pkg/buildinfo
LDFLAGS  := -s -w -X $(BUILDINFO).version=$(VERSION)
# The flags are those of the checks, so that they share one build cache.
GOBUILD  := go build -ldflags '$(LDFLAGS)'
FUZZTIME ?= 60s
DATA_DIR ?= .seaworthy
WITHOUT_RACE := TestBombs|TestNamesOfAFileAreBounded|TestReference|TestRealAdvisories|TestLargeDocument

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

##@ Try it

.PHONY: demo
demo: build demo-images ## Build everything, push two images, watch them become verdicts
	@bin/seaworthy demo --config deploy/config/seaworthy.yaml

.PHONY: run
run: build ## Start the all-in-one and leave it running
	@bin/seaworthy run --config deploy/config/seaworthy.yaml --data-dir $(DATA_DIR)

.PHONY: run-fleet
run-fleet: build services $(BIN)/nats-server ## Start the five services as processes of their own, on loopback
	@tools/scripts/with-postgres tools/scripts/run-fleet

##@ Build

.PHONY: build
build: ## Build bin/seaworthy and bin/seaworthyctl
	@mkdir -p bin
	@echo "building bin/seaworthy and bin/seaworthyctl (minutes the first time, seconds after)" >&2
	@$(GOBUILD) -o bin/seaworthy ./cmd/seaworthy
	@$(GOBUILD) -o bin/seaworthyctl ./cmd/seaworthyctl

.PHONY: services
services: ## Build the five service binaries into bin/
	@mkdir -p bin
	@for s in $(SERVICES); do $(GOBUILD) -o bin/$$s ./services/$$s/cmd/$$s; done

.PHONY: kms-plugins
kms-plugins: ## Build the programs with which the signer reaches a KMS, into bin/
	@mkdir -p bin
	@GOWORK=off GOBIN=$(ROOT)/bin go -C tools/kms install ./sigstore-kms-awskms ./sigstore-kms-azurekms ./sigstore-kms-gcpkms ./sigstore-kms-hashivault

.PHONY: demo-images
demo-images: bin/demo/ledger-1.4.0 bin/demo/ledger-1.5.0 ## Build the programs inside the demo's images

bin/demo/ledger-1.4.0: deploy/demo/ledger/main.go deploy/demo/ledger/vulnerable.mod
	@mkdir -p $(@D)
	@cd deploy/demo/ledger && GOWORK=off GOOS=linux GOARCH=amd64 CGO_ENABLED=0 go build -trimpath -buildvcs=false -modfile=vulnerable.mod -o $(ROOT)/$@ .

bin/demo/ledger-1.5.0: deploy/demo/ledger/main.go deploy/demo/ledger/go.mod
	@mkdir -p $(@D)
	@cd deploy/demo/ledger && GOWORK=off GOOS=linux GOARCH=amd64 CGO_ENABLED=0 go build -trimpath -buildvcs=false -o $(ROOT)/$@ .

.PHONY: generate
generate: $(BIN)/buf $(BIN)/protoc-gen-go ## Generate gen/ from proto/
	@$(BIN)/buf format -w
	@$(BIN)/buf generate

##@ Check

.PHONY: test
test: build services demo-images $(BIN)/nats-server ## Unit, conformance (SQLite and PostgreSQL) and end-to-end tests, race detector on
	@tools/scripts/with-postgres go test -race -timeout 20m $(addprefix ./,$(addsuffix /...,$(MODULES)))
	@# What skips itself under the race detector, for the memory or the minutes it takes there.
	@go test -timeout 20m -run '^($(WITHOUT_RACE))$$' ./services/scanner/internal/extract ./services/scanner/internal/advisory ./services/signer/internal/consumer

.PHONY: lint
lint: $(BIN)/golangci-lint $(BIN)/buf ## Lint Go and protobuf
	@$(BIN)/buf lint
	@$(BIN)/buf format -d --exit-code
	@$(BIN)/golangci-lint run --allow-parallel-runners $(addprefix ./,$(addsuffix /...,$(MODULES)))

.PHONY: check
check: lint ## Everything that must stay true besides the tests
	@tools/scripts/check-generated
	@tools/scripts/check-modules
	@tools/scripts/check-imports
	@tools/scripts/check-breaking
	@tools/scripts/check-prose

.PHONY: test-interop
test-interop: build demo-images $(BIN)/cosign ## Verify what we sign with the real cosign
	@SEAWORTHY_COSIGN=$(BIN)/cosign go test -count=1 -run Interop -timeout 15m -v ./tests/interop/... ./services/signer/app

.PHONY: test-interop-all
test-interop-all: build demo-images $(BIN)/cosign $(BIN)/oras $(BIN)/regctl ## The same, and read it with oras and regctl too
	@SEAWORTHY_COSIGN=$(BIN)/cosign SEAWORTHY_ORAS=$(BIN)/oras SEAWORTHY_REGCTL=$(BIN)/regctl go test -count=1 -run Interop -timeout 15m -v ./tests/interop/... ./services/signer/app

.PHONY: test-interop-keyless
test-interop-keyless: $(BIN)/cosign $(BIN)/sigstore/fulcio $(BIN)/sigstore/ctlog ## Sign keyless with the real Fulcio, Rekor v2, timestamp authority and CT log (builds them: minutes the first time)
	@SEAWORTHY_COSIGN=$(BIN)/cosign SEAWORTHY_SIGSTORE=$(BIN)/sigstore go test -count=1 -p 1 -run 'Interop_(Keyless|FrozenRekor|LostAnswers)|RealSigstore|LargeDocument$$' -timeout 15m -v ./services/signer/app ./services/signer/internal/keyless ./services/signer/internal/consumer

.PHONY: test-interop-large
test-interop-large: $(BIN)/cosign ## Have cosign verify documents of up to 255 MiB: ten minutes, and GiB of memory
	@SEAWORTHY_COSIGN=$(BIN)/cosign go test -count=1 -run Interop_LargeDocuments -timeout 30m -v ./services/signer/internal/consumer

.PHONY: test-interop-kms
test-interop-kms: $(BIN)/cosign $(BIN)/kms/vault ## Sign with keys that the real Vault holds (builds it: minutes the first time)
	@SEAWORTHY_COSIGN=$(BIN)/cosign SEAWORTHY_VAULT=$(BIN)/kms go test -count=1 -p 1 -run Interop_KMS -timeout 15m -v ./services/signer/app ./services/signer/internal/kmskey

.PHONY: test-interop-admission
test-interop-admission: $(BIN)/policycontroller/tester $(BIN)/kubectl-kyverno ## Have Sigstore's policy-controller and Kyverno admit what we sign (builds them: many minutes the first time)
	@SEAWORTHY_POLICY_TESTER=$(BIN)/policycontroller/tester SEAWORTHY_KYVERNO=$(BIN)/kubectl-kyverno go test -count=1 -run 'Interop_(PolicyController|Kyverno)' -timeout 5m -v ./services/signer/app

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 60s)
	@tools/scripts/fuzz $(FUZZTIME)

.PHONY: accuracy
accuracy: build ## Compare findings and inventories of real images with what is expected and with other scanners
	@go test -count=1 -run 'Accuracy|RealAdvisories' ./services/scanner/internal/advisory
	@tools/scripts/accuracy-images >/dev/null
	@go run ./tests/cmd/accuracy

.PHONY: peers
peers: ## Install the scanners that accuracy and bench-scan compare with, where they look for them
	@GOWORK=off GOBIN=$$HOME/.cache/seaworthy-peers/bin go install github.com/anchore/syft/cmd/syft@v1.57.0
	@GOWORK=off GOBIN=$$HOME/.cache/seaworthy-peers/bin go install github.com/google/osv-scanner/v2/cmd/osv-scanner@v2.5.0

.PHONY: bench
bench: ## Run the benchmarks of every module; x-bare is the ratio to the least possible work
	@tools/scripts/bench $(MODULES)

.PHONY: bench-scan
bench-scan: build ## Measure the scan of a 1 GB image from a registry against the bare work, and other scanners
	@tools/scripts/accuracy-images >/dev/null
	@mkdir -p .cache
	@bin/seaworthy advisories build --output-file .cache/bench.snapshot "$${SEAWORTHY_TESTDATA:-deploy/advisories}"
	@go build -o .cache/scanbench ./tests/cmd/scanbench
	@.cache/scanbench -advisories .cache/bench.snapshot

.PHONY: bench-growth
bench-growth: ## Measure how the cost of a scan grows, and draw it into docs/growth
	@go test -run '^$$' -bench '^BenchmarkScan$$' -benchtime 8x -count 4 ./services/scanner/internal/oneshot | go run ./tests/cmd/growth

.PHONY: clean
clean: ## Remove what was built; the data directory and the tools stay
	@rm -rf bin

##@ Tools, each pinned in a module of its own under tools/

$(BIN)/buf: tools/buf/go.mod
	@GOWORK=off GOBIN=$(BIN) go -C tools/buf install tool
	@touch $@
$(BIN)/protoc-gen-go: tools/protoc/go.mod
	@GOWORK=off GOBIN=$(BIN) go -C tools/protoc install tool
	@touch $@
$(BIN)/golangci-lint: tools/lint/go.mod
	@GOWORK=off GOBIN=$(BIN) go -C tools/lint install tool
	@touch $@
$(BIN)/nats-server: tools/nats/go.mod
	@GOWORK=off GOBIN=$(BIN) go -C tools/nats install tool
	@touch $@
$(BIN)/oras: tools/oras/go.mod
	@GOWORK=off GOBIN=$(BIN) go -C tools/oras install tool
	@touch $@
$(BIN)/regctl: tools/regclient/go.mod
	@GOWORK=off GOBIN=$(BIN) go -C tools/regclient install tool
	@touch $@
$(BIN)/cosign: tools/cosign/go.mod
	@GOWORK=off GOBIN=$(BIN) go -C tools/cosign install tool
	@touch $@
$(BIN)/policycontroller/tester: tools/policycontroller/go.mod
	@GOWORK=off GOBIN=$(BIN)/policycontroller go -C tools/policycontroller install tool
	@touch $@
$(BIN)/kubectl-kyverno: tools/kyverno/go.mod
	@GOWORK=off GOBIN=$(BIN) go -C tools/kyverno install tool
	@touch $@
# Not tidied: a module of a test of a dependency cannot be had from the proxy.
$(BIN)/sigstore/fulcio: tools/sigstore/go.mod
	@GOWORK=off GOBIN=$(BIN)/sigstore go -C tools/sigstore install tool
	@touch $@
$(BIN)/sigstore/ctlog: tools/ctlog/go.mod tools/ctlog/main.go
	@GOWORK=off GOBIN=$(BIN)/sigstore go -C tools/ctlog install .
	@touch $@
$(BIN)/kms/vault: tools/vault/go.mod tools/vault/main.go tools/kms/go.mod
	@GOWORK=off GOBIN=$(BIN)/kms go -C tools/kms install ./sigstore-kms-hashivault
	@GOWORK=off GOBIN=$(BIN)/kms go -C tools/vault install .
	@touch $@
