# For scripts that start programs on this machine, which all end with the script. It is read in by `.`, gives them a folder in
# $work that is gone at the end, and keeps what the programs keep there.
work=$(mktemp -d)
export XDG_CONFIG_HOME="$work"
processes=''

# Takes note of the process that was started last.
started() {
    process=$!
    processes="$process $processes"
}

finish() {
    # Only what the script has started, the last of it first.
    for process in $processes; do
        kill "$process" 2>/dev/null || :
        wait "$process" 2>/dev/null || :
    done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

# Waits up to 20 seconds for a line in the log of the process that was started last, and prints what stands behind it there.
await() {
    tries=0
    until grep -q "$2" "$1" 2>/dev/null; do
        tries=$((tries + 1))
        if [ "$tries" -gt 400 ] || ! kill -0 "$process" 2>/dev/null; then
            cat "$1" >&2
            exit 1
        fi
        sleep 0.05
    done
    sed -n "s/.*$2//p" "$1" | head -n 1
}
