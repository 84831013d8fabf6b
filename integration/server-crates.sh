#!/bin/sh
# Fails if the server, built alone, depends on a crate that only a peer needs, or that compiles C: it is to be built for musl too.
# And so with the feature cluster; without it, nothing of that is there, and CLUSTER_URL is refused.
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

# A server without that feature says so where it finds CLUSTER_URL, and does not run alone beside the others.
target=${CARGO_TARGET_DIR:-target}
cargo build --quiet --locked --no-default-features --features server --bin lowkey-server --target-dir "$target/alone"
said=$(CLUSTER_URL=redis://:secret@127.0.0.1 PORT=0 "$target/alone/debug/lowkey-server" 2>&1) && status=0 || status=$?
case "$status $said" in
    *secret*) echo "it shows a password: $said" >&2 && exit 1 ;;
    "2 "*CLUSTER_URL*"built with the feature cluster"*) echo 'without the feature cluster it ends with 2 where CLUSTER_URL is set' ;;
    *) echo "a server without the feature cluster, with CLUSTER_URL, ends with $status: $said" >&2 && exit 1 ;;
esac
