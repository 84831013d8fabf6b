# What the scripts stand on that try installed programs: a folder and processes that are gone at the end, steps that are
# counted, and waiting for a text. To be sourced.
# shellcheck shell=bash

work=$(mktemp -d)
# What was started, by process id.
processes=()
finish() {
    for process in "${processes[@]}"; do
        kill "$process" 2>/dev/null || :
        wait "$process" 2>/dev/null || :
    done
    rm -rf "$work"
}
trap finish EXIT
passed=0
skipped=0
ok() { passed=$((passed + 1)) && echo "ok: $1"; }
fail() { echo "FAILED: $1" >&2; exit 1; }
# What is not tried here, and why. Counts as skipped each step that a script has. Usage: skip REASON SCRIPT...
skip() { skipped=$((skipped + $(cat "${@:2}" | grep -c '^ok '))) && echo "skipped: $1"; }
summary() { echo "$passed passed, 0 failed, $skipped skipped"; }
# Waits until a command succeeds, for twenty seconds and more. Usage: soon COMMAND...
soon() {
    for _ in $(seq 400); do
        "$@" && return
        sleep 0.05
    done
    return 1
}
# Waits until a file holds a text.
await() {
    soon grep -qs -- "$2" "$1" && return
    cat "$1" >&2
    fail "no '$2' in $1"
}
