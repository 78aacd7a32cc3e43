# blockjobd: every command that a person or CI needs. `make` alone prints this list.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# Under ssh, bash would read its start-up files, and those of Debian fail with -u.
.SHELLFLAGS := --norc -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

# The pinned Node and the tools of node_modules come before those of the machine.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
# The tests start hundreds of services and clients. The cache keeps the code that Node has compiled.
export NODE_COMPILE_CACHE := $(CURDIR)/.cache/node-compile
INSTALLED := node_modules/.installed
REPORT := .cache/test-report.json
# The contents of generated/blockjob.binpb. The files of google.api that the contract imports are included.
CONTRACT := --exclude-path proto/etcd --exclude-path node_modules/google-proto-files/google/api --exclude-source-info

##@ Use
.PHONY: help
help: ## print this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

.PHONY: demo
demo: $(INSTALLED) ## copy the disk of a real guest that keeps writing, pivot to it, and prove that nothing is lost
	@bash test/support/setup.sh demo
	@node test/demo/demo.ts $(if $(KEEP),--keep)

##@ Build
$(INSTALLED): package.json package-lock.json .npmrc
	@echo "installing the npm packages of package-lock.json into node_modules"
	@npm ci --loglevel=error
	@# npm does not run install scripts here, and since version 12 it cannot be told to. The one that is needed runs now.
	@(cd node_modules/node && node installArchSpecificPackage.js) >/dev/null
	@npm rebuild node --loglevel=error >/dev/null
	@# npm omits optional packages that do not fit the Node that it runs on. From here on it runs on the pinned one.
	@NODE_NO_WARNINGS=1 npm install --no-save --loglevel=error >/dev/null
	@touch $@

.PHONY: generate
generate: $(INSTALLED) ## rewrite generated/ from proto/ and page/
	@buf format -w proto
	@buf generate
	@buf build $(CONTRACT) -o generated/blockjob.binpb
	@$(call bundle-page,generated/page)

# The files for browsers: one script, with the output of protoc-gen-es, and one style sheet, without source maps.
bundle-page = esbuild page/page.ts page/page.css --bundle --minify --format=esm --target=es2022 --log-level=warning --outdir=$(1) && \
	cp page/index.html page/icon.svg $(1)

.PHONY: build
build: $(INSTALLED) ## compile to JavaScript: dist/blockjobd and dist/blockjobd-client, as npm publishes them
	@node build/build.ts

.PHONY: packages
packages: build ## make dist/packages: npm tarballs, a Debian package, and a list of the contents of each (SBOM)
	@bash test/support/setup.sh test
	@node build/packages.ts

.PHONY: format
format: $(INSTALLED) ## format all sources
	@biome check --write --log-level=warn
	@buf format -w proto

##@ Check
.PHONY: test
test: lint check-generated breaking ## run all checks: types, lint, contract, unit, story, fault, and real-QEMU suites
	@bash test/support/setup.sh test
	@rm -f $(REPORT)
	@vitest run --project '!newcomer' --reporter=default --reporter=json --outputFile.json=$(REPORT) || true
	@node test/support/summary.ts $(REPORT)

.PHONY: newcomer
newcomer: $(INSTALLED) ## test the promises of README in fresh roots of Debian 12 and 13 (needs root; RELEASES=sid: only in sid)
	@bash test/support/setup.sh test
	@NEWCOMER_RELEASES="$(or $(RELEASES),bookworm trixie)" vitest run --project newcomer

.PHONY: unit
unit: $(INSTALLED) ## run the tests that need no QEMU
	@vitest run --project unit

.PHONY: chaos
chaos: $(INSTALLED) ## kill the service again and again while a guest and its jobs run, and check each result (KILLS=5000 SEED=7)
	@bash test/support/setup.sh test
	@CHAOS_KILLS=$(or $(KILLS),2000) GATE_ROUNDS=$(or $(GATE_ROUNDS),200) THROTTLE_ROUNDS=$(or $(THROTTLE_ROUNDS),100) \
		$(if $(SEED),CHAOS_SEED=$(SEED)) vitest run --project qemu test/chaos
	@# Alone, because a verdict is about the speed of the machine.
	@VERDICT_ROUNDS=$(or $(VERDICT_ROUNDS),60) vitest run --project qemu test/qemu/verdicts.test.ts

.PHONY: graphs
graphs: $(INSTALLED) ## move random graphs of disks, and compare each byte (ROUNDS=1000 SEED=7)
	@bash test/support/setup.sh test
	@GRAPHS_ROUNDS=$(or $(ROUNDS),500) GRAPHS_SEED=$(or $(SEED),$$RANDOM) vitest run --project qemu test/graphs

.PHONY: fuzz
fuzz: $(INSTALLED) ## send a service with a QEMU random requests: valid, almost valid, and random bytes (REQUESTS=50000 SEED=7)
	@bash test/support/setup.sh test
	@FUZZ_REQUESTS=$(or $(REQUESTS),1000000) $(if $(SEED),FUZZ_SEED=$(SEED)) vitest run --project qemu test/qemu/any-request.test.ts

.PHONY: bench
bench: build ## measure the service beside its peers, rewrite the tables in docs, and fail if a ratio got worse by a third (ONLY="copy deep"; ROUNDS=3: rewrite nothing)
	@bash test/support/setup.sh bench
	@$(if $(ROUNDS),ROUNDS=$(ROUNDS)) node test/bench/bench.ts $(ONLY)

.PHONY: test-versions
test-versions: $(INSTALLED) ## run the suites that depend on QEMU with the QEMUs of four Debian releases, and newcomer on three (needs root; ONLY="11.1 commit": only that one)
	@bash test/support/setup.sh test
	@node test/support/versions.ts $(ONLY)
	@$(if $(ONLY),,$(MAKE) newcomer RELEASES="bookworm trixie sid")

.PHONY: lint
lint: $(INSTALLED) ## check types, lint rules and format
	@tsc -p .
	@tsc -p page
	@tsc -p test/page
	@oxlint --type-aware --deny-warnings
	@biome check --log-level=warn
	@buf lint
	@buf format -d --exit-code proto

.PHONY: check-generated
check-generated: $(INSTALLED) ## fail if generated/ differs from the output for proto/ and page/
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; buf generate -o "$$fresh"; \
	buf build $(CONTRACT) -o "$$fresh/generated/blockjob.binpb"; \
	$(call bundle-page,"$$fresh/generated/page"); \
	diff -r generated "$$fresh/generated" || { echo "generated/ is stale or edited by hand: run make generate" >&2; exit 1; }

.PHONY: breaking
breaking: $(INSTALLED) ## fail if proto/ breaks a client of the released contract
	@new=$$(mktemp --suffix=.binpb); trap 'rm -f "$$new"' EXIT; \
	buf build --path proto/blockjob -o "$$new" --exclude-source-info; \
	buf breaking "$$new" --against proto/released.binpb --exclude-imports

.PHONY: rewrite-stories
rewrite-stories: $(INSTALLED) ## rewrite test/story/*.txt; commit them only if you understand what caused each change
	@REWRITE_STORIES=1 vitest run --project unit test/story

.PHONY: rewrite-docs
rewrite-docs: $(INSTALLED) ## rewrite the tables of docs: errors, configuration, disks, recovery/how-it-decides
	@REWRITE_DOCS=1 vitest run --project unit test/unit/docs.test.ts test/unit/configuration-doc.test.ts test/unit/disks-doc.test.ts \
		test/unit/recovery-doc.test.ts
