#!/bin/sh
# The tag of a release, which is annotated with its section of release.md. Usage: release.sh check|tag VERSION
# "check" says whether it can be made, before tests take their time.
set -eu
cd "$(dirname "$0")/.."
version=$2
fail() { echo "no release: $1" >&2; exit 1; }

[ -z "$(git status --porcelain)" ] || fail 'there are changes that are not committed'
if git rev-parse --quiet --verify "refs/tags/v$version" >/dev/null; then
    fail "v$version is there already; the next version goes into Cargo.toml"
fi
notes=$(awk -v title="# $version" '/^# / { inside = $0 == title; next } inside' deploy/release.md | sed '/./,$!d')
[ -n "$notes" ] || fail "deploy/release.md has no section \"# $version\""
if [ "$1" = tag ]; then
    printf 'Lowkey %s\n\n%s\n' "$version" "$notes" | git tag --annotate --cleanup=verbatim --file=- "v$version"
    echo "v$version is made; git push origin v$version publishes it"
fi
