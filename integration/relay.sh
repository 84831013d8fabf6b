#!/bin/sh
# STUN and TURN with a real coturn, between networks that the test makes of namespaces. Installs the Debian packages that it needs,
# if it may; where the machine allows no such networks, it says so and skips the tests. Usage: relay.sh [--release] [TESTS]
set -eu
cd "$(dirname "$0")/.."

integration/need.sh 'coturn: turnserver' 'nftables: nft' 'iproute2: ip' curl python3

networks='ip link add name nat0 type veth peer name nat1 && echo 1 >/proc/sys/net/ipv4/ip_forward &&
    nft "add table ip t; add chain ip t c { type nat hook postrouting priority 100; }; add rule ip t c masquerade; add rule ip t c ct state new drop"'
if ! unshare --user --map-root-user --net sh -c "$networks" >/dev/null 2>&1; then
    echo '0 passed, 0 failed, 19 skipped: this machine allows no network namespaces, or no NAT in them'
    exit 0
fi
release=''
if [ "${1:-}" = --release ]; then
    release=--release
    shift
fi
if [ -z "$release" ]; then
    "${CARGO:-cargo}" build --locked
    unshare --user --map-root-user --net --fork --kill-child integration/quota.sh "${CARGO_TARGET_DIR:-target}/debug"
fi
exec "${CARGO:-cargo}" test --locked $release --test integration -- --ignored --nocapture "${1:-relay::relays_and_nats}"
