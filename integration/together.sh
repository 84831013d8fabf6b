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

# A chat with the bot by the lowkey of this folder, at the server of this address. Without a terminal what is read is sent to the
# bot, or a line of its own, and it is well only if all of that came back.
talk() {
    if [ -t 0 ] && [ -t 1 ]; then
        "$1/lowkey" --server "ws://$2" --name you_demo echo
        exit
    fi

    lines=$(cat)
    [ -n "$lines" ] || lines='hello'
    wanted=$(printf '%s\n' "$lines" | wc -l)
    mkfifo "$work/input" "$work/output"
    "$1/lowkey" --server "ws://$2" --name you_demo --timeout 60 send --follow echo <"$work/input" >"$work/output" &
    chat=$!
    # The chat ends with its input, or where it cannot go on; the input stays open until all has come back.
    exec 3>"$work/input" 4<"$work/output"
    printf '%s\n' "$lines" | sed 's/^/you> /'
    printf '%s\n' "$lines" >&3 &
    came=0
    while [ "$came" -lt "$wanted" ] && IFS= read -r line <&4; do
        printf '%s\n' "$line"
        case $line in 'echo: '*) came=$((came + 1)) ;; esac
    done
    exec 3>&-
    wait "$chat" || exit
    [ "$came" -eq "$wanted" ]
}
