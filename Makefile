# subflowd. `make help` lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := build

PREFIX     ?= /usr
DESTDIR    ?=
UNITDIR    ?= $(if $(filter /usr,$(PREFIX)),/lib/systemd/system,$(PREFIX)/lib/systemd/system)
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
# NetworkManager looks below /usr/local for nothing.
NMDIR      ?= $(if $(filter /usr,$(PREFIX)),/usr/lib,/etc)/NetworkManager/conf.d

# sudo's PATH does not know where Go's own installer puts it; an ordinary user's PATH lacks the sbin directories.
GO := $(or $(shell command -v go),$(wildcard /usr/local/go/bin/go))
ifeq ($(GO),)
$(error Go 1.26 or newer is needed and not in PATH: https://go.dev/dl)
endif
export PATH := $(PATH):$(patsubst %/,%,$(dir $(GO))):/usr/local/sbin:/usr/sbin:/sbin
export CGO_ENABLED := 0
# git refuses to look at another user's clone, and go build would fail with it; the version is stamped below.
export GOFLAGS := $(filter-out -buildvcs%,$(GOFLAGS)) -buildvcs=false

VERSION := $(or $(shell git describe --tags --always --dirty 2>/dev/null),devel)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null)$(if $(filter %-dirty,$(VERSION)),-dirty)
STAMP   := github.com/subflowd/subflowd/internal/version
LDFLAGS := -s -w -X $(STAMP).version=$(VERSION) -X $(STAMP).commit=$(COMMIT)

ROOT    := $(filter 0,$(shell id -u))
# Under `sudo make` the caller builds, so that no file of root's is left in the tree or in the cache.
AS_USER := $(if $(and $(ROOT),$(filter-out root,$(SUDO_USER))),sudo -H -u $(SUDO_USER) env CGO_ENABLED=0 GOFLAGS='$(GOFLAGS)')
TOOL    := $(GO) tool -modfile=internal/tools/go.mod

# Packages with namespaces wait more than they compute: two at a time, and four tests in each.
GO_TEST   := $(GO) test -count=1 -p 2 -parallel 4
TEST_ARGS ?=
RUN_ARGS  ?=
SCRIPTS   = .ci/run $(shell find . -name '*.sh' -not -path './.git/*')

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/subflowd and bin/subflowctl, static
	$(AS_USER) $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/subflowd ./cmd/subflowctl

.PHONY: run
run: build ## build, then run the daemon in the foreground on this machine's network (RUN_ARGS=--log-level=debug)
ifneq ($(ROOT),)
	@exec bin/subflowd $(RUN_ARGS)
else
	@command -v sudo >/dev/null || { printf 'subflowd needs root, and there is no sudo here. Run:\n\n    su -c "$(CURDIR)/bin/subflowd $(RUN_ARGS)"\n\n' >&2; exit 1; }
	@exec sudo $(CURDIR)/bin/subflowd $(RUN_ARGS)
endif

.PHONY: demo
demo: build ## the whole story in throwaway namespaces: two uplinks, one transfer, a cable pulled
	$(AS_USER) $(GO) build -trimpath -o bin/ ./test/demo/transfer
	@exec $(if $(ROOT),,sudo) test/demo/demo.sh bin

.PHONY: deps
deps: ## install the Debian packages that the tests lack, with no service started
	@test/deps.sh

.PHONY: test
test: deps ## unit, property, integration and end-to-end tests; `sudo make test` skips nothing
	$(GO_TEST) -timeout 15m $(TEST_ARGS) ./...
ifeq ($(ROOT),)
	@echo 'Tests that need namespaces were skipped: sudo make test runs them too.'
endif

.PHONY: bench
bench: deps ## what the steps of a reaction cost; `sudo make bench` asks the real kernel
	$(GO) test -tags bench -p 1 -run '^$$' -bench . -benchmem -timeout 60m $(TEST_ARGS) ./...

.PHONY: check check-modules check-vet check-rules check-scripts check-lint
check: check-modules check-vet check-rules check-scripts check-lint ## modules, vet, import rules, licences, scripts, lint and format
check-modules:
	$(GO) mod tidy -diff
	$(GO) mod verify
check-vet:
	$(GO) vet ./...
	$(GO) vet -tags soak,bench ./...
check-rules:
	$(GO) test ./internal/archtest
check-scripts: deps
	for s in $(SCRIPTS); do bash -n $$s; done
	shellcheck --severity=warning --exclude=SC2206 $(SCRIPTS)
check-lint:
	$(TOOL) golangci-lint run --build-tags soak,bench

.PHONY: fmt
fmt: ## rewrite the sources as `make check` wants them
	$(TOOL) golangci-lint fmt

.PHONY: install
install: build ## install to DESTDIR, below PREFIX
	install -D -m 755 bin/subflowd '$(DESTDIR)$(PREFIX)/sbin/subflowd'
	install -D -m 755 bin/subflowctl '$(DESTDIR)$(PREFIX)/bin/subflowctl'
	install -d '$(DESTDIR)$(UNITDIR)'
	sed 's|/usr/sbin/subflowd|$(PREFIX)/sbin/subflowd|' systemd/subflowd.service >'$(DESTDIR)$(UNITDIR)/subflowd.service'
	chmod 644 '$(DESTDIR)$(UNITDIR)/subflowd.service'
	install -D -m 644 systemd/sysusers.conf '$(DESTDIR)$(SYSUSERSDIR)/subflowd.conf'
	install -D -m 644 packaging/networkmanager.conf '$(DESTDIR)$(NMDIR)/90-subflowd.conf'
	install -D -m 644 packaging/networkd.conf '$(DESTDIR)$(PREFIX)/lib/systemd/networkd.conf.d/90-subflowd.conf'
	install -D -m 644 internal/config/reference.toml '$(DESTDIR)$(PREFIX)/share/doc/subflowd/subflowd.toml'
	@[ -n '$(DESTDIR)' ] || echo 'Then: systemd-sysusers && systemctl daemon-reload && systemctl enable --now subflowd'

.PHONY: uninstall
uninstall: ## remove what install put there; the configuration stays
	rm -f '$(DESTDIR)$(PREFIX)/sbin/subflowd' '$(DESTDIR)$(PREFIX)/bin/subflowctl' \
		'$(DESTDIR)$(UNITDIR)/subflowd.service' '$(DESTDIR)$(SYSUSERSDIR)/subflowd.conf' \
		'$(DESTDIR)$(NMDIR)/90-subflowd.conf' '$(DESTDIR)$(PREFIX)/lib/systemd/networkd.conf.d/90-subflowd.conf' \
		'$(DESTDIR)$(PREFIX)/share/doc/subflowd/subflowd.toml'

.PHONY: clean
clean: ## remove what the build made
	rm -rf bin dist
