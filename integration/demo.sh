#!/bin/sh
# A server, the echo bot and a chat that is already connected to the bot, in one terminal; all end together. Without a terminal
# what is read is sent to the bot, or a line of its own, and it ends with 0 only if all of that came back.
# Usage: demo.sh FOLDER-OF-LOWKEY-AND-LOWKEY-BOT FOLDER-OF-LOWKEY-SERVER
set -eu
programs=$1
# shellcheck source=integration/together.sh
. "$(dirname "$0")/together.sh"

HOST=127.0.0.1 PORT=0 "$2/lowkey-server" 2>"$work/server" &
started
address=$(await "$work/server" 'listening on ')
"$programs/lowkey-bot" --server "ws://$address" --name echo 2>"$work/bot" &
started
await "$work/bot" 'online as ' >/dev/null
if [ -t 0 ] && [ -t 1 ]; then
    "$programs/lowkey" --server "ws://$address" --name you_demo echo
    exit
fi

lines=$(cat)
[ -n "$lines" ] || lines='hello'
wanted=$(printf '%s\n' "$lines" | wc -l)
mkfifo "$work/input" "$work/output"
"$programs/lowkey" --server "ws://$address" --name you_demo --timeout 60 send --follow echo <"$work/input" >"$work/output" &
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
