#!/usr/bin/env bash
# Tries deploy/: the unit's score, the server under the unit's very system-call filter, and a chat through a real nginx with
# TLS, and by a real SOCKS5 proxy. Installs the Debian packages that it needs, if it may. Usage: deploy.sh FOLDER-OF-THE-PROGRAMS
#
# Nothing here runs under systemd as init: the user of DynamicUser, the file systems of ProtectSystem and its kin, the namespaces,
# and restarts are booted.sh's. What this shows: no privileges, no capabilities, the filter, the address families, and the bound of
# descriptors.
set -euo pipefail
cd "$(dirname "$0")/.."
programs=$1

needed=''
command -v nginx >/dev/null || needed+=' nginx-light'
command -v systemd-analyze >/dev/null || needed+=' systemd'
command -v openssl >/dev/null || needed+=' openssl'
command -v curl >/dev/null || needed+=' curl'
command -v microsocks >/dev/null || needed+=' microsocks'
/usr/bin/python3 -c 'import seccomp' 2>/dev/null || needed+=' python3 python3-seccomp'
if [ -n "$needed" ]; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $needed >/dev/null
fi

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
HOST=127.0.0.1 PORT=$port /usr/bin/python3 integration/confine.py deploy/lowkey-server.service "$work/lowkey-server" \
    2>"$work/server.log" &
processes+=($!)
await "$work/server.log" 'listening on'
grep '^NoNewPrivs:.*1$' "/proc/${processes[0]}/status" >/dev/null || fail 'new privileges'
grep '^Seccomp:.*2$' "/proc/${processes[0]}/status" >/dev/null || fail 'no filter'
grep '^CapEff:.*0000000000000000$' "/proc/${processes[0]}/status" >/dev/null || fail 'capabilities'
ok 'the server starts under the filter of its unit, without privileges'

# nginx with the site, on ports and paths of this test's own.
tls=$(free_port) plain=$(free_port)
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
sed -e "s|server 127.0.0.1:8080|server 127.0.0.1:$port|" -e "s|listen 80;|listen 127.0.0.1:$plain;|" \
    -e "s|listen 443 ssl;|listen 127.0.0.1:$tls ssl;|" -e '/listen \[::\]/d' -e 's|chat\.example|localhost|g' \
    -e "s|/etc/letsencrypt/live/localhost/fullchain.pem|$work/cert.pem|" \
    -e "s|/etc/letsencrypt/live/localhost/privkey.pem|$work/key.pem|" -e "s|/var/log/nginx/|$work/|" \
    deploy/nginx-lowkey.conf >"$work/site.conf"
cat >"$work/nginx.conf" <<NGINX
daemon off;
pid $work/nginx.pid;
events {}
http {
    client_body_temp_path $work/body; proxy_temp_path $work/proxy; fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi; scgi_temp_path $work/scgi;
    include $work/site.conf;
}
NGINX
nginx -t -q -e "$work/nginx-error.log" -c "$work/nginx.conf" || fail 'nginx -t'
ok 'nginx takes the site'
nginx -e "$work/nginx-error.log" -c "$work/nginx.conf" &
processes+=($!)
https() { curl --silent --cacert "$work/cert.pem" --http1.1 "$@"; }
for _ in $(seq 100); do https "https://localhost:$tls/health" >"$work/health" && break || sleep 0.05; done
[ "$(cat "$work/health")" = '{"status":"ok"}' ] || fail "health: $(cat "$work/health")"
ok '/health goes through nginx over HTTP/1.1'
[ "$(https -o /dev/null -w '%{http_code}' "https://localhost:$tls/metrics")" = 404 ] || fail 'metrics are reached from outside'
[ "$(https -o /dev/null -w '%{http_code}' "https://localhost:$tls/ws?username=someone")" = 426 ] || fail '/ws without an upgrade'
ok 'only what has to be is reached'
curl --silent --include "http://127.0.0.1:$plain/%0d%0aSet-Cookie:%20evil=1" -H 'Host: evil.example' >"$work/redirect"
grep -qi '^Location: https://localhost/' "$work/redirect" || fail 'the redirect leads elsewhere'
grep -qi '^Set-Cookie' "$work/redirect" && fail 'the redirect can be split'
ok 'the redirect from port 80 cannot be turned against anybody'

# A chat through it all.
export SSL_CERT_FILE=$work/cert.pem HOME=$work
"$programs/lowkey-bot" --server "wss://localhost:$tls" --name robot_one 2>"$work/bot.log" &
processes+=($!)
await "$work/bot.log" 'online as robot_one'
{
    echo 'through nginx'
    await "$work/chat.out" 'robot_one: through nginx'
} | "$programs/lowkey" --server "wss://localhost:$tls" --name alice_one robot_one >"$work/chat.out" 2>"$work/chat.log"
ok 'two peers chat over wss through nginx'
grep -q '/ws' "$work/lowkey.log" || fail 'nothing in the access log'
grep -rqE 'robot_one|alice_one|username' "$work"/lowkey*.log "$work/nginx-error.log" && fail 'a name in a log'
grep -qE 'robot_one|alice_one' "$work/server.log" && fail "a name in the server's log"
ok 'no log holds a name'

# The same by a SOCKS5 proxy that wants to know a user and a secret.
socks=$(free_port)
microsocks -i 127.0.0.1 -p "$socks" -u alice -P 'hunter:2' 2>/dev/null &
processes+=($!)
{
    echo 'by a proxy'
    await "$work/proxied.out" 'robot_one: by a proxy'
} | LOWKEY_PROXY="socks5://alice:hunter%3A2@127.0.0.1:$socks" "$programs/lowkey" --server "wss://localhost:$tls" --direct \
    --name carol_one robot_one >"$work/proxied.out" 2>"$work/proxied.log" || fail "$(cat "$work/proxied.log")"
ok 'the server is reached by a real SOCKS5 proxy'

# Stopping, still under the filter.
kill -TERM "${processes[0]}"
wait "${processes[0]}" || fail 'the server did not end in order'
await "$work/bot.log" 'no server'
ok 'the server ends in order'
echo "$passed passed, 0 failed"
