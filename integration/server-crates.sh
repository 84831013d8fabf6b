#!/bin/sh
# Fails if the server, built alone, depends on a crate that only a peer needs, or that compiles C: it is to be built for musl too.
set -eu
cd "$(dirname "$0")/.."
tree=$(cargo tree --locked --no-default-features --features server --edges normal,build --prefix none --format '{p}')
for crate in tokio webrtc rtc rustls ring crypto_box rustyline clap cc cmake; do
    if printf '%s\n' "$tree" | grep -q "^$crate v"; then
        echo "the server depends on $crate" >&2
        exit 1
    fi
done
echo "the server alone is built from $(printf '%s\n' "$tree" | sed 's/ .*//' | sort -u | wc -l) crates, none of them a peer's"
