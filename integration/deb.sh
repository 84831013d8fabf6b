#!/usr/bin/env bash
# Tries the Debian packages: lintian, then in a fresh Debian in a folder they are installed, a chat goes through the installed
# server, and they are removed and purged. That Debian has no systemd, so the server is started by the command and the settings that
# its unit names. Then it boots with one, and booted.sh goes on.
# Installs the Debian packages that it needs, and leaves nothing else behind. Usage: deb.sh FOLDER-OF-THE-PACKAGES
set -euo pipefail
packages=$(realpath "$1")
cd "$(dirname "$0")/.."

# shellcheck source=integration/steps.sh
. integration/steps.sh
if ! mknod -m 666 "$work/null" c 1 3 2>/dev/null || ! : 2>/dev/null >"$work/null" || ! chroot / true 2>/dev/null; then
    skip 'this machine allows no devices or no chroot, which a Debian in a folder needs' integration/deb.sh integration/booted.sh integration/several.sh
    summary
    exit
fi

integration/need.sh debootstrap lintian 'systemd-container: systemd-nspawn' 'procps: pgrep' 'iproute2: ip'

root=$work/root
clean=(/usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive)
# No function: one in the background would have a shell between here and the program, to which signals go.
inside=(chroot "$root" "${clean[@]}")

lintian --allow-root --fail-on error "$packages"/*.deb >"$work/lintian" 2>&1 || { cat "$work/lintian"; fail 'lintian'; }
ok 'lintian finds no errors'

debootstrap --variant=minbase bookworm "$root" http://deb.debian.org/debian >"$work/debootstrap.log" ||
    { tail "$work/debootstrap.log"; fail 'debootstrap'; }
"${inside[@]}" find / -xdev '(' -path /proc -o -path /sys -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache ')' -prune -o -print |
    sort >"$work/before"
cp "$packages"/*.deb "$root/root/"
"${inside[@]}" sh -c 'dpkg --install /root/*.deb' >"$work/install.log" 2>&1 || { cat "$work/install.log"; fail 'installation'; }
rm "$root"/root/*.deb
ok 'a fresh Debian takes the packages, with nothing but what is there'

version=$(sed -n '/^version/{s/.*"\(.*\)"/\1/p;q}' Cargo.toml)
for program in lowkey lowkey-bot lowkey-server; do
    [ "$("${inside[@]}" $program --version)" = "$program $version" ] || fail "$program --version"
done
ok "the programs say that they are $version"
for file in man/man1/lowkey.1.gz man/man1/lowkey-bot.1.gz man/man8/lowkey-server.8.gz bash-completion/completions/lowkey \
    zsh/vendor-completions/_lowkey fish/vendor_completions.d/lowkey.fish; do
    [ -s "$root/usr/share/$file" ] || fail "no $file"
done
ok 'manual pages and completions are there'
[ -L "$root/etc/systemd/system/multi-user.target.wants/lowkey-server.service" ] || fail 'the unit is not enabled'
grep -q '^DynamicUser=yes' "$root/usr/lib/systemd/system/lowkey-server.service" || fail 'the unit has no user of its own'
ok 'the unit is enabled'

# A setting of one's own, and the server as the unit starts it.
port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'PORT=%s\nACCESS_TOKEN=friends\n' "$port" >>"$root/etc/default/lowkey-server"
unit=$root/usr/lib/systemd/system/lowkey-server.service
# shellcheck disable=SC2046
"${inside[@]}" $(sed -n 's/^Environment=//p' "$unit") $(grep -v '^#' "$root/etc/default/lowkey-server") \
    "$(sed -n 's/^ExecStart=//p' "$unit")" 2>"$work/server.log" &
processes+=($!)
await "$work/server.log" "listening on 127.0.0.1:$port"
ok 'the server starts with the settings of its unit and of /etc/default'
"${inside[@]}" lowkey-bot --server "ws://127.0.0.1:$port" --access-token friends 2>"$work/bot.log" &
processes+=($!)
await "$work/bot.log" 'online as echo'
{
    echo 'out of the package'
    await "$work/chat.out" 'echo: out of the package'
} | "${inside[@]}" lowkey --server "ws://127.0.0.1:$port" --access-token friends --name alice echo >"$work/chat.out" 2>"$work/chat.log" ||
    fail "$(cat "$work/chat.log")"
ok 'two installed programs chat through the installed server'
for process in "${processes[@]}"; do
    kill -TERM "$process"
    wait "$process" || fail 'a program did not end in order'
done
processes=()

cp "$packages"/lowkey-server_*.deb "$root/root/"
"${inside[@]}" sh -c 'dpkg --install /root/*.deb' >"$work/again.log" 2>&1 || { cat "$work/again.log"; fail 'an update'; }
rm "$root"/root/*.deb
grep -q "^PORT=$port" "$root/etc/default/lowkey-server" || fail 'an update took the settings away'
ok 'an update keeps the settings'
"${inside[@]}" dpkg --remove lowkey lowkey-server >/dev/null
grep -q "^PORT=$port" "$root/etc/default/lowkey-server" || fail 'a removal took the settings away'
"${inside[@]}" dpkg --purge lowkey-server >/dev/null
rm -rf "$root/root/.config"
"${inside[@]}" find / -xdev '(' -path /proc -o -path /sys -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache ')' -prune -o -print |
    sort >"$work/after"
diff "$work/before" "$work/after" >"$work/left" || { cat "$work/left"; fail 'something is left, or gone'; }
ok 'a purge leaves nothing'

# shellcheck source=integration/booted.sh
. integration/booted.sh
# shellcheck source=integration/several.sh
. integration/several.sh
summary
