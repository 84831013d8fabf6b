#!/usr/bin/env bash
# Tries a static server: in an empty folder that it takes for the whole file system, with a chat through it.
# Usage: static.sh SERVER FOLDER-OF-THE-PROGRAMS
set -euo pipefail
server=$(realpath "$1") programs=$(realpath "$2")
cd "$(dirname "$0")/.."

# shellcheck source=integration/steps.sh
. integration/steps.sh
if ! chroot / true 2>/dev/null; then
    skip 'this machine allows no chroot' integration/static.sh
    summary
    exit
fi
! ldd "$server" >"$work/libraries" 2>&1 || grep -q 'statically linked' "$work/libraries" || { cat "$work/libraries"; fail 'it needs libraries'; }
ok 'it needs no libraries'
mkdir "$work/root"
cp "$server" "$work/root/lowkey-server"
chroot "$work/root" /lowkey-server --version >"$work/version"
grep -q '^lowkey-server ' "$work/version" || fail "version: $(cat "$work/version")"
HOST=127.0.0.1 PORT=0 chroot "$work/root" /lowkey-server 2>"$work/server.log" &
processes+=($!)
await "$work/server.log" 'listening on'
address=$(sed -n 's/.*listening on //p' "$work/server.log")
ok 'it starts where there is nothing else'
export HOME=$work
"$programs/lowkey-bot" --server "ws://$address" 2>"$work/bot.log" &
processes+=($!)
await "$work/bot.log" 'online as echo'
{
    echo 'out of nothing'
    await "$work/chat.out" 'echo: out of nothing'
} | "$programs/lowkey" --server "ws://$address" --name alice echo >"$work/chat.out" 2>"$work/chat.log" || fail "$(cat "$work/chat.log")"
ok 'two peers chat through it'
kill -TERM "${processes[0]}"
wait "${processes[0]}" || fail 'the server did not end in order'
ok 'it ends in order'
summary
