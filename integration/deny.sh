#!/bin/sh
# Holds the crates in Cargo.lock to deny.toml. The database of advisories comes from the network; without it everything else is
# checked, and it is said that this was not.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

"$cargo" deny --locked check --hide-inclusion-graph licenses sources bans
if timeout 120 "$cargo" deny --log-level off fetch db; then
    "$cargo" deny --locked check --hide-inclusion-graph advisories
else
    echo '!!! Known vulnerabilities were NOT looked for: the database of advisories cannot be fetched.' >&2
    echo '!!! Run this again with a network before anything is released.' >&2
fi
