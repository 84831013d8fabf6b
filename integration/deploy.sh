#!/usr/bin/env bash
# Tries deploy/: the unit's score, the server under the unit's very system-call filter, and chats through real proxies with TLS, nginx,
# Caddy and HAProxy, and by a real SOCKS5 proxy. Installs the Debian packages that it needs, if it may. Usage: deploy.sh FOLDER-OF-THE-PROGRAMS
#
# Nothing here runs under systemd as init: the user of DynamicUser, the file systems of ProtectSystem and its kin, the namespaces,
# and restarts are booted.sh's. What this shows: no privileges, no capabilities, the filter, the address families, and the bound of
# descriptors.
set -euo pipefail
cd "$(dirname "$0")/.."
programs=$1

integration/need.sh 'nginx-light: nginx' caddy haproxy 'systemd: systemd-analyze' openssl curl microsocks \
    'python3 python3-seccomp: /usr/bin/python3 -c "import seccomp"'

# shellcheck source=integration/steps.sh
. integration/steps.sh
chmod 755 "$work"
free_port() { /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# The unit, with a program where it expects one.
sed "s|^ExecStart=.*|ExecStart=$(realpath "$programs")/lowkey-server|" deploy/lowkey-server.service >"$work/lowkey-server.service"
systemd-analyze verify "$work/lowkey-server.service" || fail 'systemd-analyze verify'
ok 'the unit is understood'
systemd-analyze security --offline=true --threshold=15 --no-pager "$work/lowkey-server.service" >"$work/score" ||
    { tail -n 2 "$work/score"; fail 'the unit scores 1.5 or worse'; }
ok "$(tail -n 1 "$work/score" | sed 's/^[^A-Za-z]*//')"

# The server without privileges, under the unit's filter.
port=$(free_port)
cp "$programs/lowkey-server" "$work/lowkey-server"
HOST=127.0.0.1 PORT=$port MAX_CLIENTS_PER_ADDRESS=2500 MAX_CLIENTS_PER_NETWORK=2 /usr/bin/python3 integration/confine.py deploy/lowkey-server.service "$work/lowkey-server" \
    2>"$work/server.log" &
processes+=($!)
await "$work/server.log" 'listening on'
grep '^NoNewPrivs:.*1$' "/proc/${processes[0]}/status" >/dev/null || fail 'new privileges'
grep '^Seccomp:.*2$' "/proc/${processes[0]}/status" >/dev/null || fail 'no filter'
grep '^CapEff:.*0000000000000000$' "/proc/${processes[0]}/status" >/dev/null || fail 'capabilities'
ok 'the server starts under the filter of its unit, without privileges'

# Each proxy before it, with a certificate of this test's own.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
export SSL_CERT_FILE=$work/cert.pem HOME=$work
# shellcheck source=integration/proxies.sh
. integration/proxies.sh

# The server by a SOCKS5 proxy that wants to know a user and a secret.
"$programs/lowkey-bot" --server "ws://127.0.0.1:$port" --name robot_one 2>"$work/bot.log" &
processes+=($!)
await "$work/bot.log" 'online as robot_one'
socks=$(free_port)
microsocks -i 127.0.0.1 -p "$socks" -u alice -P 'hunter:2' 2>/dev/null &
processes+=($!)
{
    echo 'by a proxy'
    await "$work/proxied.out" 'robot_one: by a proxy'
} | LOWKEY_PROXY="socks5://alice:hunter%3A2@127.0.0.1:$socks" "$programs/lowkey" --server "ws://127.0.0.1:$port" --direct \
    --name carol_one robot_one >"$work/proxied.out" 2>"$work/proxied.log" || fail "$(cat "$work/proxied.log")"
ok 'the server is reached by a real SOCKS5 proxy'

# Stopping, still under the filter.
kill -TERM "${processes[0]}"
wait "${processes[0]}" || fail 'the server did not end in order'
await "$work/bot.log" 'offline: '
ok 'the server ends in order'
echo "$passed passed, 0 failed"
