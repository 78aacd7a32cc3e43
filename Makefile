# blockjobd: every command that a person or CI needs. `make` alone prints this list.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

# The pinned Node and the tools of node_modules come first, whatever the machine has.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
INSTALLED := node_modules/.installed

##@ Use
.PHONY: help
help: ## print this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

##@ Build
$(INSTALLED): package.json package-lock.json .npmrc
	@echo "installing the npm packages of package-lock.json into node_modules"
	@npm ci --loglevel=error
	@npm rebuild node --ignore-scripts=false --loglevel=error
	@touch $@

.PHONY: generate
generate: $(INSTALLED) ## rewrite generated/ from proto/
	@buf format -w proto
	@buf generate
	@buf build -o generated/blockjob.binpb --exclude-source-info

.PHONY: format
format: $(INSTALLED) ## format all sources
	@biome check --write --log-level=warn
	@buf format -w proto

##@ Check
.PHONY: lint
lint: $(INSTALLED) ## types, lint and format
	@tsc -p .
	@oxlint --type-aware --deny-warnings
	@biome check --log-level=warn
	@buf lint
	@buf format -d --exit-code proto
