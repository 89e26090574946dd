# subflowd. `make help` lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := build

PREFIX     ?= /usr
DESTDIR    ?=
UNITDIR    ?= $(if $(filter /usr,$(PREFIX)),/lib/systemd/system,$(PREFIX)/lib/systemd/system)
SBINDIR    ?= $(PREFIX)/sbin
SYSCONFDIR ?= /etc
MANDIR     ?= $(PREFIX)/share/man
ZSHDIR     ?= $(PREFIX)/share/zsh/site-functions
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
# `subflowctl run` hands the signals on that it found ignored: internal/run/signals_runtime.go.
TAGS    := runtimesignals
LDFLAGS := -s -w -checklinkname=0 -X $(STAMP).version=$(VERSION) -X $(STAMP).commit=$(COMMIT)
# A number that every kind of package takes: 1.2.3, four commits later 1.2.3.4.
PKG_VERSION ?= $(or $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed -E 's/^v//; s/-([0-9]+)-g[0-9a-f]+$$/.\1/'),0.0.0.$(or $(shell git rev-list --count HEAD 2>/dev/null),0))
# The time that is written into packages and pages.
EPOCH   := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),0)
BIN     ?= bin
PAGES   ?= $(BIN)
DIST    ?= dist
ARCHS   ?= amd64 arm64 armv7 riscv64 mipsle
FORMATS ?= deb rpm archlinux apk

ROOT    := $(filter 0,$(shell id -u))
# Under `sudo make` the caller builds, so that no file of root's is left in the tree or in the cache.
AS_USER := $(if $(and $(ROOT),$(filter-out root,$(SUDO_USER))),sudo -H -u $(SUDO_USER) env CGO_ENABLED=0 GOFLAGS='$(GOFLAGS)')
TOOL    := $(GO) tool -modfile=internal/tools/go.mod

# Packages with namespaces wait more than they compute: two at a time, and four tests in each.
GO_TEST   := $(GO) test -count=1 -p 2 -parallel 4
TEST_ARGS ?=
KERNEL_ARGS ?=
RUN_ARGS  ?=
FUZZTIME  ?= 30s
SCRIPTS   = .ci/run $(shell find . -name '*.sh' -not -path './.git/*')

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/subflowd and bin/subflowctl, static
	$(AS_USER) $(GO) build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o '$(BIN)/' ./cmd/subflowd ./cmd/subflowctl

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

.PHONY: test-capable
test-capable: deps ## the integration tests with the daemon as an ordinary user with CAP_NET_ADMIN alone (by sudo)
	SUBFLOW_USER=nobody $(GO_TEST) -timeout 15m $(TEST_ARGS) ./test/integration

# Left out: test/system, whose packages hold static programs without the detector; its TestEnable alone starts a subflowctl
# with it, which takes a second to end (atexit_sleep_ms), just as long as `enable --now` watches a service. test/kinds and
# test/bench have build tags: the one wants a kernel with every kind of link, the other measures what the detector slows down.
.PHONY: race
race: deps ## the race detector under the tests and under the daemon that they start (by sudo; it takes gcc)
	CGO_ENABLED=1 SUBFLOW_RACE=1 $(GO) test -race -count=1 -p 2 -parallel 4 -timeout 60m $(TEST_ARGS) \
		./internal/... ./pkg/... ./cmd/... ./docs/... \
		./test/docs ./test/lab ./test/pm_nl_ctl ./test/integration ./test/chaos ./test/managers ./test/run ./test/top ./test/vm

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each, with what the repository keeps and what earlier runs have found
	grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' internal pkg cmd test | sed -E 's|^(.*)/[^/]+:func |\1 |' | sort | while read -r dir name; do \
		echo "$$name of $$dir"; \
		$(AS_USER) $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime '$(FUZZTIME)' $(TEST_ARGS) "./$$dir" </dev/null; \
	done

.PHONY: soak
soak: deps ## chaos by the hundred seeds, kills at every request, fights, flaps and storms: docs/CHAOS.md; a release's packages; and test-kernel
	$(GO) test -count=1 -v -tags soak -parallel 3 -timeout 90m $(TEST_ARGS) ./test/chaos
	$(GO) test -count=1 -tags soak -timeout 60m -run TestEveryArchitecture ./test/system
	$(MAKE) test-kernel

.PHONY: test-kernel
test-kernel: ## the core of the tests on Debian's own kernel in qemu: docs/kernels.md (KERNEL_ARGS='-run TestVLAN'; by sudo)
	@test/deps.sh packages vm/packages
	$(AS_USER) $(GO) build -trimpath -o '$(BIN)/' ./test/vm
	@exec '$(BIN)/vm' $(KERNEL_ARGS)

.PHONY: bench
bench: deps ## figures beside their references, as docs/BENCHMARKS.md lists them; fails when one is missed (by sudo)
	$(GO) test -tags bench -p 1 -run '^$$' -bench . -benchmem -timeout 60m $(TEST_ARGS) ./...
	$(GO) test -tags bench -count=1 -v -timeout 60m $(TEST_ARGS) ./test/bench

.PHONY: check check-modules check-vet check-rules check-scripts check-lint
check: check-modules check-vet check-rules check-scripts check-lint ## modules, vet, import rules, licences, scripts, lint and format
check-modules:
	$(GO) mod tidy -diff
	$(GO) mod verify
check-vet:
	$(GO) vet ./...
	$(GO) vet -tags soak,bench,kinds ./...
check-rules:
	$(GO) test ./internal/archtest
check-scripts: deps
	for s in $(SCRIPTS); do bash -n $$s; done
	shellcheck --severity=warning --exclude=SC2206 $(SCRIPTS)
check-lint:
	$(TOOL) golangci-lint run --build-tags soak,bench,kinds

.PHONY: fmt
fmt: ## rewrite the sources as `make check` wants them
	$(TOOL) golangci-lint fmt

.PHONY: pages
pages: build # the manual pages and the completions
	$(AS_USER) $(GO) run ./docs/man '$(PAGES)/man' '$(PKG_VERSION)' "$$(date -u -d @$(EPOCH) +%F)"
	$(AS_USER) install -d '$(PAGES)/completions'
	for s in bash zsh fish; do '$(BIN)/subflowctl' completion $$s | $(AS_USER) tee '$(PAGES)'/completions/$$s >/dev/null; done

.PHONY: install
install: build pages install-files ## install to DESTDIR, below PREFIX
	@[ -n '$(DESTDIR)' ] || echo 'Then: systemd-sysusers && systemctl daemon-reload && systemctl enable --now subflowd'

# Only copies, so that packages of any architecture are made of it.
.PHONY: install-files
install-files:
	install -D -m 755 '$(BIN)/subflowd' '$(DESTDIR)$(SBINDIR)/subflowd'
	install -D -m 755 '$(BIN)/subflowctl' '$(DESTDIR)$(PREFIX)/bin/subflowctl'
	install -d '$(DESTDIR)$(UNITDIR)' '$(DESTDIR)$(SYSCONFDIR)/subflowd/conf.d'
	sed 's|/usr/sbin/subflowd|$(SBINDIR)/subflowd|' systemd/subflowd.service >'$(DESTDIR)$(UNITDIR)/subflowd.service'
	chmod 644 '$(DESTDIR)$(UNITDIR)/subflowd.service'
	install -D -m 644 systemd/subflowd.preset '$(DESTDIR)$(PREFIX)/lib/systemd/system-preset/90-subflowd.preset'
	install -D -m 644 systemd/sysusers.conf '$(DESTDIR)$(SYSUSERSDIR)/subflowd.conf'
	install -D -m 644 packaging/networkmanager.conf '$(DESTDIR)$(NMDIR)/90-subflowd.conf'
	install -D -m 644 packaging/networkd.conf '$(DESTDIR)$(PREFIX)/lib/systemd/networkd.conf.d/90-subflowd.conf'
	[ -e '$(DESTDIR)$(SYSCONFDIR)/subflowd/subflowd.toml' ] || install -m 644 internal/config/reference.toml '$(DESTDIR)$(SYSCONFDIR)/subflowd/subflowd.toml'
	install -D -m 644 '$(PAGES)/completions/bash' '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/subflowctl'
	install -D -m 644 '$(PAGES)/completions/zsh' '$(DESTDIR)$(ZSHDIR)/_subflowctl'
	install -D -m 644 '$(PAGES)/completions/fish' '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/subflowctl.fish'
	for page in subflowctl.1 subflowd.toml.5 subflowd.8; do \
		install -d '$(DESTDIR)$(MANDIR)'/man$${page##*.}; \
		gzip -9nc '$(PAGES)'/man/$$page >'$(DESTDIR)$(MANDIR)'/man$${page##*.}/$$page.gz; \
		chmod 644 '$(DESTDIR)$(MANDIR)'/man$${page##*.}/$$page.gz; \
	done

.PHONY: uninstall
uninstall: ## remove what install put there; the configuration stays
	rm -f '$(DESTDIR)$(SBINDIR)/subflowd' '$(DESTDIR)$(PREFIX)/bin/subflowctl' \
		'$(DESTDIR)$(UNITDIR)/subflowd.service' '$(DESTDIR)$(SYSUSERSDIR)/subflowd.conf' \
		'$(DESTDIR)$(PREFIX)/lib/systemd/system-preset/90-subflowd.preset' \
		'$(DESTDIR)$(NMDIR)/90-subflowd.conf' '$(DESTDIR)$(PREFIX)/lib/systemd/networkd.conf.d/90-subflowd.conf' \
		'$(DESTDIR)$(PREFIX)/share/bash-completion/completions/subflowctl' '$(DESTDIR)$(ZSHDIR)/_subflowctl' \
		'$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/subflowctl.fish' \
		'$(DESTDIR)$(MANDIR)'/man1/subflowctl.1.gz '$(DESTDIR)$(MANDIR)'/man5/subflowd.toml.5.gz '$(DESTDIR)$(MANDIR)'/man8/subflowd.8.gz

.PHONY: packages
packages: pages ## deb, rpm, Arch and apk packages in DIST (ARCHS='amd64 arm64' FORMATS=deb)
	$(AS_USER) env GO='$(GO)' VERSION='$(PKG_VERSION)' ARCHS='$(ARCHS)' FORMATS='$(FORMATS)' TAGS='$(TAGS)' LDFLAGS='$(LDFLAGS)' \
		SOURCE_DATE_EPOCH='$(EPOCH)' PAGES='$(abspath $(PAGES))' packaging/build.sh '$(DIST)'

.PHONY: clean
clean: ## remove what the build made
	rm -rf bin dist
