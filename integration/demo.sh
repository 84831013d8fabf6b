#!/bin/sh
# A server, the echo bot and a chat that is already connected to the bot, in one terminal; all end together. Without a terminal
# what is read is sent to the bot, or a line of its own, and it ends with 0 only if all of that came back.
# Usage: demo.sh FOLDER-OF-LOWKEY-AND-LOWKEY-BOT FOLDER-OF-LOWKEY-SERVER
set -eu
programs=$1
logs=$(mktemp -d)
server='' bot=''
# What the programs keep is gone with the demo.
export XDG_CONFIG_HOME="$logs"
finish() {
    # Only what this script has started.
    for process in $bot $server; do
        kill "$process" 2>/dev/null || :
        wait "$process" 2>/dev/null || :
    done
    rm -rf "$logs"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

# Waits for a line in a log of a program that is still running, and prints what stands behind it there.
await() {
    tries=0
    until grep -q "$2" "$1" 2>/dev/null; do
        tries=$((tries + 1))
        if [ "$tries" -gt 200 ] || ! kill -0 "$3" 2>/dev/null; then
            cat "$1" >&2
            exit 1
        fi
        sleep 0.05
    done
    sed -n "s/.*$2//p" "$1" | head -n 1
}

HOST=127.0.0.1 PORT=0 "$2/lowkey-server" 2>"$logs/server" &
server=$!
address=$(await "$logs/server" 'listening on ' "$server")
"$programs/lowkey-bot" --server "ws://$address" --name echo 2>"$logs/bot" &
bot=$!
await "$logs/bot" 'online as ' "$bot" >/dev/null
if [ -t 0 ] && [ -t 1 ]; then
    "$programs/lowkey" --server "ws://$address" --name you_demo echo
    exit
fi

lines=$(cat)
[ -n "$lines" ] || lines='hello'
wanted=$(printf '%s\n' "$lines" | wc -l)
mkfifo "$logs/input" "$logs/output"
"$programs/lowkey" --server "ws://$address" --name you_demo --timeout 60 send --follow echo <"$logs/input" >"$logs/output" &
chat=$!
# The chat ends with its input, or where it cannot go on; the input stays open until all has come back.
exec 3>"$logs/input" 4<"$logs/output"
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
