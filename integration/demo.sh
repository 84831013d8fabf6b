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
talk "$programs" "$address"
