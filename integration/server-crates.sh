#!/bin/sh
# Fails if the server, built alone, depends on a crate that only a peer needs, or that compiles C: it is to be built for musl too.
# And so with the feature cluster; without it, nothing of that is there.
set -eu
cd "$(dirname "$0")/.."
for features in server server,cluster; do
    tree=$(cargo tree --locked --no-default-features --features "$features" --edges normal,build --prefix none --format '{p}')
    foreign='tokio webrtc rtc rustls ring crypto_box rustyline clap cc cmake'
    [ "$features" != server ] || foreign="$foreign redis-protocol nom"
    for crate in $foreign; do
        if printf '%s\n' "$tree" | grep -q "^$crate v"; then
            echo "the server with $features depends on $crate" >&2
            exit 1
        fi
    done
    count=$(printf '%s\n' "$tree" | sed 's/ .*//' | sort -u | wc -l)
    echo "the server with $features is built from $count crates, none of them a peer's"
done
