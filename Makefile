# blockjobd: every command that a person or CI needs. `make` alone prints this list.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# Behind ssh bash would read its start-up files, and Debian's end it under -u.
.SHELLFLAGS := --norc -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

# The pinned Node and the tools of node_modules come first, whatever the machine has.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
# Hundreds of services and clients are started by the tests: what Node has compiled once is kept.
export NODE_COMPILE_CACHE := $(CURDIR)/.cache/node-compile
INSTALLED := node_modules/.installed
REPORT := .cache/test-report.json
# What generated/blockjob.binpb holds. Of google.api what the contract imports comes along.
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
	@# The one install script that is needed is run by hand: npm runs none here, and since version 12 not when it is told to.
	@(cd node_modules/node && node installArchSpecificPackage.js) >/dev/null
	@npm rebuild node --loglevel=error >/dev/null
	@# npm leaves out optional packages that do not suit the Node that it runs on. Now it runs on the pinned one.
	@NODE_NO_WARNINGS=1 npm install --no-save --loglevel=error >/dev/null
	@touch $@

.PHONY: generate
generate: $(INSTALLED) ## rewrite generated/ from proto/ and page/
	@buf format -w proto
	@buf generate
	@buf build $(CONTRACT) -o generated/blockjob.binpb
	@$(call bundle-page,generated/page)

# What browsers get: one script and one style sheet, without maps. What protoc-gen-es makes is a part of it.
bundle-page = esbuild page/page.ts page/page.css --bundle --minify --format=esm --target=es2022 --log-level=warning --outdir=$(1) && \
	cp page/index.html page/icon.svg $(1)

.PHONY: build
build: $(INSTALLED) ## compile to JavaScript: dist/blockjobd and dist/blockjobd-client, as npm publishes them
	@node build/build.ts

.PHONY: packages
packages: build ## dist/packages: npm tarballs, a Debian package, and lists of all that is in them (SBOM)
	@bash test/support/setup.sh test
	@node build/packages.ts

.PHONY: format
format: $(INSTALLED) ## format all sources
	@biome check --write --log-level=warn
	@buf format -w proto

##@ Check
.PHONY: test
test: lint check-generated breaking ## all of the checks: types, lint, contract, unit, story, fault, and real-QEMU suites
	@bash test/support/setup.sh test
	@rm -f $(REPORT)
	@vitest run --project '!newcomer' --reporter=default --reporter=json --outputFile.json=$(REPORT) || true
	@node test/support/summary.ts $(REPORT)

.PHONY: newcomer
newcomer: $(INSTALLED) ## what README promises to somebody new, in fresh roots of Debian 12 and 13 (needs root; RELEASES=sid: in that one)
	@bash test/support/setup.sh test
	@NEWCOMER_RELEASES="$(or $(RELEASES),bookworm trixie)" vitest run --project newcomer

.PHONY: unit
unit: $(INSTALLED) ## only the tests that need no QEMU
	@vitest run --project unit

.PHONY: chaos
chaos: $(INSTALLED) ## kill the service for as long as you like while all goes on, and check each claim (KILLS=5000 SEED=7)
	@bash test/support/setup.sh test
	@CHAOS_KILLS=$(or $(KILLS),2000) $(if $(SEED),CHAOS_SEED=$(SEED)) vitest run --project qemu test/chaos

.PHONY: graphs
graphs: $(INSTALLED) ## move random graphs of disks for as long as you like, and compare each byte (ROUNDS=1000 SEED=7)
	@bash test/support/setup.sh test
	@GRAPHS_ROUNDS=$(or $(ROUNDS),500) GRAPHS_SEED=$(or $(SEED),$$RANDOM) vitest run --project qemu test/graphs

.PHONY: fuzz
fuzz: $(INSTALLED) ## ask a service with a QEMU whatever there is to ask, well, nearly and not at all formed (REQUESTS=50000 SEED=7)
	@bash test/support/setup.sh test
	@FUZZ_REQUESTS=$(or $(REQUESTS),1000000) $(if $(SEED),FUZZ_SEED=$(SEED)) vitest run --project qemu test/qemu/any-request.test.ts

.PHONY: bench
bench: $(INSTALLED) ## copies, paired with libvirt and bare QMP; deep chains; many journals; what a fleet of 1,000 hosts costs; a call beside floods (about eight minutes)
	@bash test/support/setup.sh bench
	@node test/bench/copy.ts
	@node test/bench/deep.ts
	@node test/bench/journals.ts
	@node test/bench/fleet.ts
	@node test/bench/floods.ts

.PHONY: test-versions
test-versions: $(INSTALLED) ## the suites that depend on QEMU, with each QEMU of four Debian releases, and newcomers to three (needs root; ONLY="11.1 commit": that one)
	@bash test/support/setup.sh test
	@node test/support/versions.ts $(ONLY)
	@$(if $(ONLY),,$(MAKE) newcomer RELEASES="bookworm trixie sid")

.PHONY: lint
lint: $(INSTALLED) ## types, lint and format
	@tsc -p .
	@tsc -p page
	@tsc -p test/page
	@oxlint --type-aware --deny-warnings
	@biome check --log-level=warn
	@buf lint
	@buf format -d --exit-code proto

.PHONY: check-generated
check-generated: $(INSTALLED) ## fail if generated/ is not what proto/ and page/ give
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
		test/unit/recovery-doc.test.ts test/unit/words.test.ts
