# Every target builds what it needs. `make` alone lists them.

PREFIX ?= /usr/local
CARGO ?= cargo
release := $(or $(CARGO_TARGET_DIR),target)/release

.DEFAULT_GOAL := help
.PHONY: help build run-server chat bot demo test test-loopback test-deploy test-relay fuzz cargo-fuzz soak bench micro check install uninstall

help: ## show this
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1#\2/p' $(MAKEFILE_LIST) | column -t -s '#' 2>/dev/null || grep '##' $(MAKEFILE_LIST)
	@echo 'Settings come from the environment, as in PORT=9000 make run-server; chat and bot take options too,'
	@echo "as in make chat ARGS='--name alice'. README.md tells them all."

build: ## build the three programs for use, in target/release
	$(CARGO) build --release --locked

run-server: ## run the signaling server
	$(CARGO) run --release --locked --no-default-features --features server --bin lowkey-server

chat: ## chat in this terminal
	@$(CARGO) run --release --locked --quiet --bin lowkey -- $(ARGS)

bot: ## run the echo bot
	$(CARGO) run --release --locked --bin lowkey-bot -- $(ARGS)

demo: build ## a server, the echo bot and a chat with it, in this terminal
	@integration/demo.sh $(release)

test: ## run all tests
	$(CARGO) test --locked

test-loopback: ## run some of them where there is no network but loopback (needs unshare and ip)
	$(CARGO) test --locked --test integration -- --ignored loopback::

test-deploy: ## the systemd unit and the nginx site, with a real nginx (installs Debian packages)
	$(CARGO) build --locked
	integration/deploy.sh $(or $(CARGO_TARGET_DIR),target)/debug

test-relay: ## STUN and TURN with a real coturn, between networks made of namespaces (installs Debian packages)
	@CARGO='$(CARGO)' integration/relay.sh

fuzz: ## a million random cases for each pure part that reads what clients send (FUZZ_SEED, FUZZ_CASES)
	$(CARGO) test --locked --release --test integration -- --ignored --nocapture fuzz::

cargo-fuzz: ## let libFuzzer choose the cases for TARGET (connection, hub, engine), for SECONDS (60); installs cargo-fuzz
	command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	cd integration/fuzz && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir . --target-dir $(CURDIR)/target/fuzz \
		$(or $(TARGET),connection) -- -max_total_time=$(or $(SECONDS),60)

soak: ## clients that come, chat, stall and vanish, for MINUTES (1)
	SOAK_MINUTES=$(or $(MINUTES),1) $(CARGO) test --locked --release --test integration -- --ignored --nocapture soak::

bench: ## what everything costs (BENCH=relay,connect,idle,loop,peers,memory, BENCH_QUICK=1, BENCH_JSON=FILE, BENCH_SERVERS)
	$(CARGO) bench --locked --bench bench

micro: ## the time of single calls: hub, connection, envelope, cipher
	$(CARGO) bench --locked --bench micro

check: ## format, clippy, docs, and what the server alone is built from
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --no-default-features --features server --bins -- -D warnings
	$(CARGO) clippy --locked --no-default-features --features peer --lib -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --lib
	@integration/server-crates.sh

install: build ## install the programs into $(PREFIX)/bin
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(release)/lowkey $(release)/lowkey-bot $(release)/lowkey-server $(DESTDIR)$(PREFIX)/bin

uninstall: ## remove them again
	rm -f $(DESTDIR)$(PREFIX)/bin/lowkey $(DESTDIR)$(PREFIX)/bin/lowkey-bot $(DESTDIR)$(PREFIX)/bin/lowkey-server
