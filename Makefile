# `make demo` and `make test` need nothing but make and the Swift toolchain: they install what is missing.

SHELL := /bin/bash
DEBUG := .build/debug
RELEASE := .build/release
FORMATTED := Sources Tests Package.swift
say = @printf '\n\033[1m== %s\033[0m\n' "$(1)"

.PHONY: help demo test tour rolling clients bench counts bench-compile bench-actors bench-cluster chaos conformance build simulate mutations lint format libraries clean
.DEFAULT_GOAL := help

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

demo: build ## three nodes, Bookinfo and traffic on this machine, until Ctrl-C
	$(RELEASE)/mesh-node demo

build: libraries ## build the programs into .build/release
	$(call say,building (release))
	swift build -c release --static-swift-stdlib --product mesh-node
	swift build -c release --static-swift-stdlib --product BookinfoDemo

test: libraries lint ## check the format, build, run all tests, the conformance cases and the tour
	$(call say,building (debug; warnings are errors))
	swift build --build-tests
	$(call say,running the tests)
	@# One test at a time: simulations would starve the tests that have deadlines on real clocks.
	@mkdir -p .build
	set -o pipefail; timeout --foreground 1800 swift test --skip-build --no-parallel | tee .build/tests.log
	$(call say,counting Istio's and the Gateway API's own cases)
	scripts/conformance $(DEBUG)/mesh-node .build/tests.log
	$(call say,running the tour of three nodes: routing, faults and failover)
	scripts/run-tour $(DEBUG)/mesh-node
	$(call say,breaking a cluster of three hosts for a minute)
	@if command -v python3 > /dev/null; then python3 Tests/RealProcesses/chaos.py $(DEBUG)/mesh-node --short; \
	  else echo "skipped: chaos needs python3"; fi
	$(call say,all passed)

tour: build ## run the scripted check of routing, faults and failover
	scripts/run-tour $(RELEASE)/mesh-node

clients: build ## curl, h2load, wrk, grpcio and websockets through two hops of the mesh
	python3 Tests/RealProcesses/clients.py $(RELEASE)/mesh-node

bench: build ## the data plane beside nginx, HAProxy and Envoy: QUICK=1, ONLY=name, WRITE=file
	swift build -c release --static-swift-stdlib --product mesh-load
	python3 Tests/Load/bench.py $(RELEASE)/mesh-node $(RELEASE)/mesh-load $(if $(QUICK),--quick) \
	  $(if $(ONLY),--only "$(ONLY)") $(if $(WRITE),--write $(WRITE))

counts: build ## check what a request costs in instructions, system calls and allocations: WRITE=1 (valgrind)
	swift build -c release --static-swift-stdlib --product mesh-load
	python3 Tests/Load/counts.py $(RELEASE)/mesh-node $(RELEASE)/mesh-load $(if $(WRITE),--write)

bench-compile: libraries ## what changes of a mesh of 1,000 services and 10,000 endpoints cost until they are served
	swift build -c release --static-swift-stdlib --product bench-compile
	$(RELEASE)/bench-compile

bench-actors: libraries ## remote calls beside Erlang over TLS and gRPC: QUICK=1, ONLY=name, OUTPUT=json, WRITE=file
	swift build -c release --static-swift-stdlib --product bench-actors
	python3 Tests/BenchActors/bench.py $(RELEASE)/bench-actors $(if $(QUICK),--quick) $(if $(ONLY),--only "$(ONLY)") \
	  $(if $(OUTPUT),-o $(OUTPUT)) $(if $(WRITE),--write $(WRITE))

bench-cluster: build ## membership beside serf, consensus beside etcd: MINUTES=n of starvation, ONLY=name (root)
	python3 Tests/RealProcesses/cluster_bench.py $(RELEASE)/mesh-node $(if $(MINUTES),--minutes $(MINUTES)) $(if $(ONLY),--only $(ONLY))

rolling: build ## restart workloads 1,000 and nodes 30 times under load and count what clients notice
	swift build -c release --static-swift-stdlib --product rolling
	$(RELEASE)/rolling --mesh-node $(RELEASE)/mesh-node

chaos: build ## break a cluster of real processes under traffic: MINUTES=n SEED=x (root)
	python3 Tests/RealProcesses/chaos.py $(RELEASE)/mesh-node --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED))

conformance: libraries ## Istio's and the Gateway API's own cases, counted by suite: MESH_CONFORMANCE=FOLDER
	$(call say,building (debug))
	swift build --build-tests
	scripts/conformance $(DEBUG)/mesh-node

fuzz: libraries ## fuzz what reads bytes from the network: SECONDS=n for each target, TARGET=x for one
	scripts/fuzz $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),60) $(TARGET)

h2spec: build ## run h2spec (in PATH, or $$H2SPEC) against the gateway, cleartext and TLS
	scripts/h2spec $(RELEASE)/mesh-node

simulate: libraries ## whole clusters in virtual time: SEEDS=n [SEED=x]
	swift build -c release --product simulate
	$(RELEASE)/simulate $(if $(SEED),seed $(SEED),$(or $(SEEDS),100))

mutations: libraries ## show that the simulation catches deliberate faults
	MESH_MUTATIONS=1 swift build -c release --product simulate --scratch-path .build/mutations
	@# Two at a time: each process has one fault in force.
	.build/mutations/release/simulate mutations even & even=$$!; \
	  .build/mutations/release/simulate mutations odd; odd=$$?; wait $$even && exit $$odd

lint: ## check the format
	$(call say,checking the format)
	swift format lint --strict -r $(FORMATTED)

format: ## format all sources
	swift format -i -r $(FORMATTED)

libraries: ## install the system libraries that are missing
	@scripts/install-libraries

clean: ## remove what was built; data and logs of the demo stay in .mesh
	rm -rf .build
