# The part of deploy.sh, which sources it, about proxies: nginx, Caddy and HAProxy with the files in deploy/ as they are printed, but
# for ports and paths, each before the same server.
# shellcheck shell=bash disable=SC2154

# So many users go through nginx at once here; with Debian's own bound of connections it would be 382.
ulimit -n "$(ulimit -Hn)"

open_sockets() { /usr/bin/python3 integration/websockets.py "$@" | paste -sd ' '; }

# What each proxy has to do. Usage: try_proxy NAME PORT-WITH-TLS PORT-WITHOUT
try_proxy() {
    local name=$1 tls=$2 plain=$3
    https() { curl --silent --cacert "$work/cert.pem" --http1.1 "$@"; }
    rm -f "$work/health"
    for _ in $(seq 200); do https "https://localhost:$tls/health" >"$work/health" && break || sleep 0.05; done
    [ "$(cat "$work/health")" = '{"status":"ok"}' ] || fail "$name: health: $(cat "$work/health")"
    ok "$name: /health goes through it over HTTP/1.1"
    [ "$(https -o /dev/null -w '%{http_code}' "https://localhost:$tls/metrics")" = 404 ] || fail "$name: metrics are reached from outside"
    [ "$(https -o /dev/null -w '%{http_code}' "https://localhost:$tls/ws?username=someone")" = 426 ] || fail "$name: /ws without an upgrade"
    ok "$name: only what has to be is reached"
    curl --silent --include "http://127.0.0.1:$plain/%0d%0aSet-Cookie:%20evil=1" -H 'Host: evil.example' >"$work/redirect"
    grep -qi '^Location: https://localhost/' "$work/redirect" || { cat "$work/redirect"; fail "$name: the redirect leads elsewhere"; }
    grep -qi '^Set-Cookie' "$work/redirect" && fail "$name: the redirect can be split"
    ok "$name: the redirect from port 80 cannot be turned against anybody"
    # The server takes 2,500 from an address, as which all of this machine count behind a proxy, but two from an IPv6 network.
    # Whoever could pose as 2001:db8::1 would be refused.
    for header in 'X-Forwarded-For: 2001:db8::1' 'X-Real-IP: 2001:db8::1' 'Forwarded: for="[2001:db8::1]"' 'x-forwarded-for: 2001:db8::1, 2001:db8::1'; do
        opened=$(open_sockets "$tls" "$work/cert.pem" 5 10 "$header")
        [ "$opened" = '101 5' ] || fail "$name: with $header: $opened"
    done
    # Nor does the proxy hide where they come from, which the server would say once.
    grep -q 'without X-Forwarded-For' "$work/server.log" && fail "$name: it does not tell where users come from"
    ok "$name: nobody poses as another address"
    /usr/bin/python3 integration/halfheads.py "$work/cert.pem" "$tls" "$plain" || fail "$name: half a head is waited for"
    ok "$name: half a head is not waited for"
    opened=$(open_sockets "$tls" "$work/cert.pem" 1 1 "Cookie: a=$(head -c 12000 /dev/zero | tr '\0' x)")
    [ "$opened" = '101 1' ] || fail "$name: 12,000 bytes of cookies: $opened"
    ok "$name: cookies of a whole domain go through"
    rm -f "$work/chat.out"
    "$programs/lowkey-bot" --server "wss://localhost:$tls" --name robot_one 2>"$work/bot.log" &
    local bot=$!
    processes+=("$bot")
    await "$work/bot.log" 'online as robot_one'
    {
        echo "through $name"
        await "$work/chat.out" "robot_one: through $name"
    } | "$programs/lowkey" --server "wss://localhost:$tls" --name alice_one robot_one >"$work/chat.out" 2>"$work/chat.log" || fail "$(cat "$work/chat.log")"
    kill "$bot"
    wait "$bot" || fail "$name: the bot did not end in order"
    ok "$name: two peers chat over wss"
    for log in "$work/$name"*.log "$work/lowkey"*.log "$work/server.log"; do
        [ -e "$log" ] || continue
        grep -qE 'robot_one|alice_one|many_|username' "$log" && fail "$name: a name in $log"
    done
    ok "$name: no log holds a name"
}

# The site, and of the whole nginx what the guide sets.
tls=$(free_port) plain=$(free_port)
sed -e "s|server 127.0.0.1:8080|server 127.0.0.1:$port|" -e "s|listen 80;|listen 127.0.0.1:$plain;|" \
    -e "s|listen 443 ssl;|listen 127.0.0.1:$tls ssl;|" -e '/listen \[::\]/d' -e 's|chat\.example|localhost|g' \
    -e "s|/etc/letsencrypt/live/localhost/fullchain.pem|$work/cert.pem|" \
    -e "s|/etc/letsencrypt/live/localhost/privkey.pem|$work/key.pem|" -e "s|/var/log/nginx/|$work/|" \
    deploy/nginx-lowkey.conf >"$work/site.conf"
connections=$(sed -n 's|^sed -i .*/\(worker_connections [0-9]*;\)/.* /etc/nginx/nginx.conf$|\1|p' deploy/README.md)
descriptors=$(sed -n "s|^echo '\(worker_rlimit_nofile [0-9]*;\)' >/etc/nginx/modules-enabled/.*|\1|p" deploy/README.md)
[ -n "$connections" ] && [ -n "$descriptors" ] || fail 'the guide does not set the connections of nginx'
places=$(free_port)
cat >"$work/nginx.conf" <<NGINX
daemon off;
pid $work/nginx.pid;
worker_processes 1;
$descriptors
events { $connections }
http {
    client_body_temp_path $work/body; proxy_temp_path $work/proxy; fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi; scgi_temp_path $work/scgi;
    include $work/site.conf;
    # What the site counts as one address, of those that a caller makes up here.
    server {
        listen 127.0.0.1:$places;
        set_real_ip_from 127.0.0.1;
        real_ip_header X-From;
        access_log off;
        return 200 "\$lowkey_place\n";
    }
}
NGINX
nginx -t -q -e "$work/nginx-error.log" -c "$work/nginx.conf" || fail 'nginx -t'
nginx -e "$work/nginx-error.log" -c "$work/nginx.conf" &
nginx=$!
processes+=("$nginx")
try_proxy nginx "$tls" "$plain"
grep -q '/ws' "$work/lowkey.log" || fail 'nginx: nothing in the access log'
opened=$(open_sockets "$tls" "$work/cert.pem" 2000 200)
[ "$opened" = '101 2000' ] || fail "nginx: of 2,000 WebSockets: $opened"
ok 'nginx: 2,000 WebSockets are open at once through one worker'
opened=$(open_sockets "$tls" "$work/cert.pem" 300 300)
[ "$opened" = '101 256 429 44' ] || fail "nginx: of 300 WebSockets of one address: $opened"
ok 'nginx: one address has no more than the server would give it'
place() {
    curl -sS -H "X-From: $1" "http://127.0.0.1:$places/"
}
while read -r address expected; do
    [ "$(place "$address")" = "$expected" ] || fail "nginx: $address counts as $(place "$address")"
done <<'ADDRESSES'
192.0.2.1 192.0.2.1
::ffff:192.0.2.1 192.0.2.1
2001:db8:1:2:3:4:5:6 2001:db8:1:2
2001:db8:1:2::7 2001:db8:1:2
2001:db8:0:1::8 2001:db8:0:1
2001:db8:1::9 2001:db8:1::
2001:db8::1 2001:db8::
ADDRESSES
ok 'nginx: an address of IPv6 is its network of 64 bits'
kill "$nginx" && wait "$nginx"

# Caddy, with a certificate of this test's own in place of one that it would get by itself.
tls=$(free_port) plain=$(free_port)
sed -e "s|127.0.0.1:8080|127.0.0.1:$port|" -e "s|^chat\.example {|https://localhost:$tls {\n\ttls $work/cert.pem $work/key.pem|" \
    -e "0,/^{/s|^{|{\n\tadmin off\n\tauto_https disable_certs\n\thttp_port $plain\n\thttps_port $tls\n\tdefault_bind 127.0.0.1|" \
    -e 's|chat\.example|localhost|g' deploy/Caddyfile >"$work/Caddyfile"
HOME=$work caddy run --adapter caddyfile --config "$work/Caddyfile" >"$work/caddy.log" 2>&1 &
caddy=$!
processes+=("$caddy")
try_proxy caddy "$tls" "$plain"
opened=$(open_sockets "$tls" "$work/cert.pem" 500 200)
[ "$opened" = '101 500' ] || fail "caddy: of 500 WebSockets: $opened"
ok 'caddy: 500 WebSockets are open at once'
kill "$caddy" && wait "$caddy" || :

# HAProxy, which wants certificate and key in one file.
tls=$(free_port) plain=$(free_port)
cat "$work/cert.pem" "$work/key.pem" >"$work/both.pem"
sed -e "s|127.0.0.1:8080|127.0.0.1:$port|" -e "s|bind :80$|bind 127.0.0.1:$plain|" -e "s|bind :443 ssl crt /etc/haproxy/chat.example.pem|bind 127.0.0.1:$tls ssl crt $work/both.pem|" \
    -e 's|chat\.example|localhost|g' deploy/haproxy-lowkey.cfg >"$work/haproxy.cfg"
# Where a process may not have so many descriptors, HAProxy would not start.
[ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -gt 40100 ] || sed -i 's/maxconn 20000/maxconn 2000/' "$work/haproxy.cfg"
haproxy -q -c -f "$work/haproxy.cfg" || fail 'haproxy -c'
haproxy -db -f "$work/haproxy.cfg" >"$work/haproxy.log" 2>&1 &
haproxy=$!
processes+=("$haproxy")
try_proxy haproxy "$tls" "$plain"
opened=$(open_sockets "$tls" "$work/cert.pem" 500 200)
[ "$opened" = '101 500' ] || fail "haproxy: of 500 WebSockets: $opened"
ok 'haproxy: 500 WebSockets are open at once'
kill "$haproxy" && wait "$haproxy" || :
