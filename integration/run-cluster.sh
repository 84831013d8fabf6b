#!/bin/sh
# A database, three servers over it and an nginx in front of them, on this machine; all end together.
# Usage: run-cluster.sh FOLDER-OF-LOWKEY-SERVER [FOLDER-OF-LOWKEY-AND-LOWKEY-BOT]
# With the second folder it does not wait, but lets a chat at one server talk to the bot at another, and ends.
# PORT (8080) is where nginx listens; DATABASE is the redis-server or valkey-server.
set -eu
cd "$(dirname "$0")/.."
servers=$1 programs=${2:-}
# shellcheck source=integration/together.sh
. integration/together.sh

database=${DATABASE:-$(command -v redis-server || command -v valkey-server ||
    integration/databases.sh target/valkey | cut -d, -f1)}
# It listens at a socket of this machine alone, and keeps nothing on disk.
"$database" --port 0 --unixsocket "$work/database.sock" --save '' --appendonly no --dir "$work" >"$work/database" 2>&1 &
started
await "$work/database" 'eady to accept connections' >/dev/null

upstream='' addresses=''
for number in 1 2 3; do
    # Its name tells this one from the others.
    HOST=127.0.0.1 PORT=0 CLUSTER_URL="redis+unix://$work/database.sock" CLUSTER_SECRET="$(basename "$work")" \
        "$servers/lowkey-server" 2>"$work/server$number" &
    started
    address=$(await "$work/server$number" 'listening on ')
    await "$work/server$number" 'can be asked' >/dev/null
    echo "server $number listens on $address"
    upstream="$upstream server $address;" addresses="$addresses $address"
done

port=${PORT:-8080}
integration/need.sh 'nginx-light: nginx'
cat >"$work/nginx.conf" <<CONF
pid $work/nginx.pid;
error_log $work/nginx.log notice;
daemon off;
worker_processes 1;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path $work/body;
    proxy_temp_path $work/proxy;
    fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi;
    scgi_temp_path $work/scgi;
    upstream lowkey { least_conn; $upstream }
    server {
        listen 127.0.0.1:$port;
        location / {
            proxy_pass http://lowkey;
            # A server that stops or has lost the others says 503: then another one is asked.
            proxy_next_upstream error timeout http_503;
            proxy_http_version 1.1;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header Host \$http_host;
            proxy_set_header X-Forwarded-For \$remote_addr;
            proxy_read_timeout 120s;
        }
    }
}
CONF
nginx -c "$work/nginx.conf" -p "$work" -e "$work/nginx.log" &
started
nginx=$process
await "$work/nginx.log" 'start worker process' >/dev/null
echo "nginx listens on 127.0.0.1:$port in front of them; lowkey --server ws://127.0.0.1:$port"

if [ -z "$programs" ]; then
    wait "$nginx"
    exit
fi
# shellcheck disable=SC2086
set -- $addresses
"$programs/lowkey-bot" --server "ws://$1" --name echo 2>"$work/bot" &
started
# In a new cluster names are given out after some seconds.
await "$work/bot" 'online as ' >/dev/null
echo "the bot is at $1, the chat at $2"
talk "$programs" "$2"
