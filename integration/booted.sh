# The second half of deb.sh, which sources it: deploy/README.md is followed in a Debian that has booted, with systemd as its first
# process, nginx, certbot with a certificate authority of this test's own, and coturn. It is a container without a network of the
# outside; where the machine lets none boot, it says so and skips.
# shellcheck shell=bash disable=SC2154
#
# What it cannot show is a kernel of its own: that is the machine's, and so are its security modules.

# The system boots in control groups of its own. All containers that are started as this one would otherwise share one, and take
# each other's services for their own.
groups=()
for mount in $(awk '$3 == "cgroup2" || $4 ~ /(^|,)name=systemd(,|$)/ { print $2 }' /proc/mounts); do
    groups+=("$mount/lowkey-$$")
done
ungroup() { find "${groups[@]}" -depth -type d -exec rmdir '{}' + 2>/dev/null || :; }
trap 'finish; ungroup' EXIT
boot() {
    mkdir "${groups[@]}" 2>"$work/console" || return
    # shellcheck disable=SC2016
    sh -c 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit; shift; done; shift; exec "$@"' sh "${groups[@]}" -- \
        systemd-nspawn --quiet --directory="$root" --machine="${groups[0]##*/}" --boot --register=no --keep-unit --link-journal=no \
        --private-network --console=pipe </dev/null >"$work/console" 2>&1 &
    container=$!
    processes+=("$container")
    for _ in $(seq 600); do
        init=$(pgrep --exact --parent "$container" systemd) &&
            [ "$(booted systemctl is-system-running 2>/dev/null)" = running ] && return
        kill -0 "$container" 2>/dev/null || return
        sleep 0.05
    done
    booted systemctl --failed >>"$work/console"
    return 1
}
# A documentation address (RFC 5737), so that coturn has one that may be talked to.
network() {
    booted sh -euc 'ip link add here type veth peer name there; ip link set here up; ip link set there up; ip address add 192.0.2.1/24 dev here'
}
halt() {
    kill "$container"
    wait "$container" || fail 'the system did not halt in order'
    processes=()
    ungroup
}
booted() { nsenter --all --target "$init" "${clean[@]}" "$@"; }
property() { booted systemctl show --property "$1" --value lowkey-server; }
# Waits until a unit has logged a text since it was last started, so many times. Usage: logged UNIT TEXT [TIMES]
logged() { journaled "_SYSTEMD_INVOCATION_ID=\$(systemctl show --property InvocationID --value $1)" "$2" "${3:-1}"; }
# The same since ever: what a process says that is gone at once may not be put down to its start. Usage: ever_logged UNIT TEXT
ever_logged() { journaled "--unit $1" "$2" 1; }
journaled() {
    for _ in $(seq 400); do
        booted sh -c "journalctl --quiet --output cat $1" >"$work/journal"
        [ "$(grep -c -- "$2" "$work/journal")" -ge "$3" ] && return
        sleep 0.05
    done
    booted journalctl --quiet --lines 30 >&2
    fail "no '$2' in the journal by $1"
}
# Does what a block of commands of the guide says, to the letter but for what a filter changes. Usage: follow HEADING NUMBER [FILTER]
follow() {
    awk -v heading="## $1" -v number="$2" '
        /^## / { inside = $0 == heading }
        /^```$/ { block = 0 }
        block && count == number { print }
        /^```sh$/ && inside { block = 1; count++ }' deploy/README.md | "${@:3}" >"$work/commands"
    [ -s "$work/commands" ] || fail "the guide has no block $2 in $1"
    booted sh -euc "cd /root/lowkey; name=chat.example; $(cat "$work/commands")" >"$work/followed" 2>&1 ||
        { cat "$work/followed" >&2; fail "the guide: $1"; }
}
# A text to the bot, and back. Usage: chat OPTION...
chat() {
    rm -f "$work/chat.out"
    {
        echo 'under systemd'
        await "$work/chat.out" 'echo: under systemd'
    } | booted lowkey --name alice --server wss://chat.example "$@" echo >"$work/chat.out" 2>"$work/chat.log" || fail "$(cat "$work/chat.log")"
}

# What the guide installs is fetched now; it is installed there.
{
    "${inside[@]}" apt-get update
    "${inside[@]}" apt-get install --yes --no-install-recommends systemd-sysv dbus iproute2 curl openssl ca-certificates pebble
    printf 'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n' >"$root/etc/apt/apt.conf.d/90lowkey"
    "${inside[@]}" apt-get install --download-only nginx certbot coturn redis-server
} >"$work/apt.log" 2>&1 || { tail "$work/apt.log"; fail 'what the guide needs cannot be fetched'; }
mkdir -p "$root/root/lowkey/target/debian"
cp -r deploy "$root/root/lowkey"
cp "$packages"/*.deb "$root/root/lowkey/target/debian"
printf '127.0.0.1 localhost\n192.0.2.1 chat.example\n' >"$root/etc/hosts"

if ! boot; then
    skip "no systemd can boot here: $(tail -n 1 "$work/console")" integration/booted.sh integration/several.sh
    return
fi
network
booted sh -c 'dpkg --install /root/lowkey/target/debian/lowkey_*.deb' >/dev/null

follow 'The server' 1 grep -v '^make'
logged lowkey-server 'listening on 127.0.0.1:8080'
pid=$(property MainPID)
status=$(booted cat "/proc/$pid/status")
grep -Pq '^Uid:\t(6[1-5]\d{3})\t\1\t\1\t\1$' <<<"$status" || fail 'the server has no user of its own'
grep -Pq '^CapBnd:\t0+$' <<<"$status" || fail 'the server has capabilities'
grep -Pq '^NoNewPrivs:\t1$' <<<"$status" || fail 'new privileges'
grep -Pq '^Seccomp:\t2$' <<<"$status" || fail 'no filter of system calls'
# As many descriptors as the unit says, if the machine has them to give.
most=$(awk '/^Max open files/ { print $5 < 1048576 ? $5 : 1048576 }' "/proc/$init/limits")
grep -Pq "^Max open files +$most +$most " <<<"$(booted cat "/proc/$pid/limits")" || fail 'too few descriptors'
ok 'an installed server runs under a user of its own, without privileges'
# What the server sees, and what root sees when it stands where the server does.
mounts=$(booted cat "/proc/$pid/mountinfo")
grep -Pq '^\S+ \S+ \S+ \S+ / ro,' <<<"$mounts" || fail 'the file system can be written'
for folder in /home /root; do
    grep -Pq "^\S+ \S+ \S+ \S+ $folder ro," <<<"$mounts" || fail "$folder is there"
done
[ "$(booted readlink "/proc/$pid/ns/user")" != "$(booted readlink /proc/1/ns/user)" ] || fail 'no user namespace'
ok 'it sees a file system that it cannot write, and no homes'

# A certificate authority, in which the container trusts, and whose answers certbot takes without asking.
booted sh -euc 'cd /root
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
        -addext basicConstraints=critical,CA:TRUE -keyout key.pem -out /usr/local/share/ca-certificates/pebble.crt
    cat >pebble.json <<PEBBLE
{"pebble": {"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000", "httpPort": 80, "tlsPort": 443,
    "certificate": "/usr/local/share/ca-certificates/pebble.crt", "privateKey": "/root/key.pem"}}
PEBBLE
    update-ca-certificates
    systemd-run --quiet --unit=pebble --setenv=PEBBLE_VA_NOSLEEP=1 --setenv=PEBBLE_WFE_NONCEREJECT=0 pebble -config /root/pebble.json
    mkdir -p .config/letsencrypt
    printf "server = https://localhost:14000/dir\nagree-tos\nregister-unsafely-without-email\nnon-interactive\n" >.config/letsencrypt/cli.ini
' >"$work/authority" 2>&1 || { cat "$work/authority"; fail 'no certificate authority'; }
logged pebble 'Listening on'
booted sh -euc 'curl --silent --show-error https://localhost:15000/roots/0 >/usr/local/share/ca-certificates/root.crt; update-ca-certificates' \
    >"$work/authority" 2>&1 || { cat "$work/authority"; fail 'no root of the certificate authority'; }
follow 'The certificate and nginx' 1 cat
[ "$(tail -n 1 "$work/followed")" = '{"status":"ok"}' ] || fail "health: $(tail -n 1 "$work/followed")"
serial() { booted sh -c 'openssl s_client -connect chat.example:443 </dev/null 2>/dev/null | openssl x509 -noout -serial'; }
before=$(serial)
booted certbot renew --force-renewal --no-random-sleep-on-renew >"$work/renewal" 2>&1 || { cat "$work/renewal"; fail 'a renewal'; }
[ "$(serial)" != "$before" ] || fail 'nginx has the old certificate'
ok 'certbot gets a certificate, nginx serves it, and a renewed one after it'

bot() { booted systemd-run --quiet --unit=bot --setenv=HOME=/root lowkey-bot --server wss://chat.example "$@"; }
bot
logged bot 'online as echo'
chat
ok 'two installed programs chat through nginx and the server'

follow 'For friends alone' 1 cat
logged bot 'the server is private'
token=$(booted sed -n 's/^ACCESS_TOKEN=//p' /etc/default/lowkey-server)
follow 'For friends alone' 2 sed -e "s/0123456789abcdef/$token/" -e '/^lowkey$/d'
booted systemctl restart bot
logged bot 'online as echo'
chat
ok 'with a token in /etc/default, who knows it comes in and nobody else'

follow 'Relays' 1 cat
booted systemctl stop bot
bot --relay-only
logged bot 'online as echo'
chat --relay-only
ok 'two that show no address chat by coturn, with a secret that systemd hands over'
booted systemctl stop bot
bot
logged bot 'online as echo'

booted systemctl kill --signal USR1 lowkey-server
logged lowkey-server '^lowkey-server [0-9.]*: 1 connections, 1 users, [0-9]* sessions$'
ok 'SIGUSR1 logs what is there'
booted systemctl kill --signal KILL lowkey-server
logged bot 'online as echo' 2
[ "$(property NRestarts)" = 1 ] || fail 'it was not systemd that started the server again'
chat
ok 'a server that was killed is started again, and clients come back'

booted sh -c 'echo HOST=192.0.2.7 >>/etc/default/lowkey-server; systemctl restart lowkey-server'
ever_logged lowkey-server 'cannot listen on 192.0.2.7:8080'
booted journalctl --quiet --output cat --unit lowkey-server --priority err >"$work/errors"
grep -q '^lowkey-server: cannot listen' "$work/errors" || fail 'an error is not logged as one'
booted ip address add 192.0.2.7/24 dev here
logged lowkey-server 'listening on 192.0.2.7:8080'
ok 'a server whose address comes late waits for it'
booted sh -c 'sed -i s/^HOST=.*/PORT=many/ /etc/default/lowkey-server; systemctl restart lowkey-server'
ever_logged lowkey-server 'PORT is'
[ "$(property NRestarts)" = 0 ] || fail 'a wrong setting is tried again'
[ "$(property Result) $(property ExecMainStatus)" = 'exit-code 2' ] || fail 'a wrong setting does not end the server'
booted sh -c 'sed -i /^PORT=/d /etc/default/lowkey-server; systemctl restart lowkey-server'
logged bot 'online as echo' 3
ok 'a wrong setting ends it'

rm -f "$work/chat.out"
pid=$(property MainPID)
{
    echo 'before'
    await "$work/chat.out" 'echo: before'
    booted sh -c 'apt-get install --reinstall /root/lowkey/target/debian/lowkey-server_*.deb' >"$work/update" 2>&1
    logged bot 'online as echo' 4
    echo 'after'
    await "$work/chat.out" 'echo: after'
} | booted lowkey --name alice echo >"$work/chat.out" 2>"$work/chat.log" || fail "$(cat "$work/chat.log" "$work/update")"
[ "$(property MainPID)" != "$pid" ] || fail 'the server was not restarted'
ok 'an update restarts the server, and an open chat goes on'

booted sh -c 'echo METRICS=127.0.0.1:9090 >>/etc/default/lowkey-server; systemctl restart lowkey-server'
logged lowkey-server 'listening on 127.0.0.1:8080'
booted curl --silent http://127.0.0.1:9090/metrics | grep '^lowkey_' >/dev/null || fail 'no metrics'
ok 'metrics are served'

booted systemctl stop lowkey-server
[ "$(property Result) $(property ExecMainStatus)" = 'success 0' ] || fail 'the server did not end in order'
halt
boot || fail "$(cat "$work/console")"
network
bot
logged bot 'online as echo'
chat
ok 'it ends in order, and is there when the system has booted again'

booted systemctl stop bot
booted apt-get purge lowkey-server >"$work/purge" 2>&1 || { cat "$work/purge"; fail 'a purge'; }
[ "$(booted find / /run -xdev -path /root -prune -o -name '*lowkey-server*' -print)" = /etc/systemd/system/lowkey-server.service.d ] ||
    { booted find / /run -xdev -path /root -prune -o -name '*lowkey-server*' -print >&2; fail 'something else is left'; }
[ "$(booted systemctl is-system-running)" = running ] || { booted systemctl --failed >&2; fail 'the system is not well'; }
halt
ok 'a purge leaves what the guide says, and a system that is well'
