#!/usr/bin/env bash
# Tries deploy/Containerfile and deploy/compose.yml: `make image` with Debian's buildah, what is in the image, a chat through it, and
# the guide's lines about containers; and compose starts the server in Debian's podman, where this machine runs containers. Of Caddy
# and coturn there is no image here. Installs the Debian packages that it needs, if it may. Usage: image.sh SERVER
# FOLDER-OF-THE-PROGRAMS
set -euo pipefail
server=$(realpath "$1") programs=$(realpath "$2")
cd "$(dirname "$0")/.."

integration/need.sh buildah caddy curl openssl docker-compose podman runc 'python3 python3-yaml: /usr/bin/python3 -c "import yaml"'

# shellcheck source=integration/steps.sh
. integration/steps.sh
free_port() { /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# In a store of its own, so that nothing is left on the machine.
buildah=(buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs)
if ! make --no-print-directory image IMAGE_SERVER="$server" IMAGE_TOOL="${buildah[*]}" >"$work/build.log" 2>&1; then
    cat "$work/build.log"
    fail 'make image'
fi
ok 'the image is built'
"${buildah[@]}" inspect --type image lowkey-server >"$work/image.json"
/usr/bin/python3 - "$work/image.json" <<'PYTHON' || fail 'the image says something else'
import json, sys

says = json.load(open(sys.argv[1]))["Docker"]["config"]
assert says["User"] == "65532:65532", says
assert says["Entrypoint"] == ["/lowkey-server"] and not says["Cmd"], says
assert says["Healthcheck"]["Test"] == ["CMD", "/lowkey-server", "--check"], says
assert list(says["ExposedPorts"]) == ["8080/tcp"] and says["StopSignal"] == "SIGTERM", says
PYTHON
container=$("${buildah[@]}" from lowkey-server)
root=$("${buildah[@]}" mount "$container")
[ "$(find "$root" -type f -printf '%P %m\n')" = 'lowkey-server 755' ] || { find "$root" -type f; fail 'something else is in it'; }
ok 'it holds the server and nothing else, and says how to start it, whose it is and how it is'

# The guide's commands, but for another folder; the image is built already, and no engine is here.
awk '
    /^## / { inside = $0 == "## In containers" }
    /^```$/ { block = 0 }
    block { print }
    /^```sh$/ && inside { block = 1 }' deploy/README.md |
    grep -vE '^(make image|docker )' | sed "s|/opt/lowkey|$work/opt|g" >"$work/commands"
grep -q compose "$work/commands" || fail 'the guide has no containers'
(name=localhost && . "$work/commands")
grep -q '^docker compose --project-directory /opt/lowkey up --detach$' deploy/README.md || fail 'the guide does not start them'
(cd "$work/opt" && docker-compose --file compose.yml config >"$work/compose.yml") || fail 'compose does not take the file'
ok 'compose takes what the guide writes'
secret=$(sed -n 's/^TURN_SECRET=//p' "$work/opt/.env")
grep -q "^static-auth-secret=$secret\$" "$work/opt/turnserver.conf" || fail 'coturn has another secret'
grep -q 'turn\.example\|chat\.example\|REPLACE-THIS' "$work/opt/"* "$work/opt/.env" && fail 'a name was not replaced'
[ "$(stat -c %a "$work/opt")" = 700 ] || fail 'others may read the secret'
ok 'server and coturn share a secret that others cannot read'

# What is in the image, with the settings that compose gives it.
port=$(free_port)
/usr/bin/python3 -c '
import sys, yaml
for name, value in yaml.safe_load(open(sys.argv[1]))["services"]["lowkey-server"]["environment"].items():
    print(f"{name}={value}")' "$work/compose.yml" | sed "s/^PORT=8080$/PORT=$port/" >"$work/environment"
grep -q '^HOST=127.0.0.1$' "$work/environment" || fail 'others than Caddy reach the server'
mapfile -t settings <"$work/environment"
inside=(env --ignore-environment "${settings[@]}" "$(command -v chroot)" --userspec=65532:65532 "$root" /lowkey-server)
"${inside[@]}" 2>"$work/server.log" &
process=$!
processes+=("$process")
await "$work/server.log" "listening on 127.0.0.1:$port"
grep -q '^Uid:.65532.65532.65532.65532$' "/proc/$process/status" || fail 'it runs as somebody else'
grep -q '^CapEff:.0000000000000000$' "/proc/$process/status" || fail 'it has capabilities'
ok 'it starts with the settings of compose, as nobody in particular'
"${inside[@]}" --check >"$work/check" 2>&1 || { cat "$work/check"; fail 'it is not well'; }
[ -s "$work/check" ] && fail "a check says: $(cat "$work/check")"
ok 'it says that it is well'

# Caddy with the guide's settings before it, but for its ports and certificate.
tls=$(free_port) plain=$(free_port)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -addext basicConstraints=critical,CA:FALSE -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
sed -e "s|127.0.0.1:8080|127.0.0.1:$port|" -e "s|^localhost {|https://localhost:$tls {\n\ttls $work/cert.pem $work/key.pem|" \
    -e "0,/^{/s|^{|{\n\tadmin off\n\tauto_https disable_certs\n\thttp_port $plain\n\thttps_port $tls\n\tdefault_bind 127.0.0.1|" \
    "$work/opt/Caddyfile" >"$work/Caddyfile"
export SSL_CERT_FILE=$work/cert.pem HOME=$work
caddy run --adapter caddyfile --config "$work/Caddyfile" >"$work/caddy.log" 2>&1 &
processes+=($!)
for _ in $(seq 200); do
    health=$(curl --silent --cacert "$work/cert.pem" "https://localhost:$tls/health") && break || sleep 0.05
done
[ "$health" = '{"status":"ok"}' ] || { cat "$work/caddy.log"; fail "health: $health"; }
"$programs/lowkey-bot" --server "wss://localhost:$tls" 2>"$work/bot.log" &
processes+=($!)
await "$work/bot.log" 'online as echo'
{
    echo 'out of a container'
    await "$work/chat.out" 'echo: out of a container'
} | "$programs/lowkey" --server "wss://localhost:$tls" --name alice --no-server-relays echo >"$work/chat.out" 2>"$work/chat.log" || fail "$(cat "$work/chat.log")"
ok 'two peers chat through Caddy and the container'

kill -TERM "$process"
wait "$process" || fail 'the server did not end in order'
code=0
"${inside[@]}" --check 2>/dev/null || code=$?
[ "$code" = 1 ] || fail "a check of a server that is gone exits with $code"
ok 'it ends in order, and a check says so'
"${buildah[@]}" umount "$container" >/dev/null

# A real engine, which compose takes for docker. Its store is buildah's, so it has the image.
podman=(podman --root "$work/storage" --runroot "$work/podman" --storage-driver vfs --cgroup-manager cgroupfs --runtime runc)
end_containers() {
    "${podman[@]}" rm --force --all >/dev/null 2>&1 || :
    finish
}
trap end_containers EXIT
export DOCKER_HOST=unix://$work/engine.sock
"${podman[@]}" system service --time 0 "$DOCKER_HOST" >"$work/engine.log" 2>&1 &
processes+=($!)
soon [ -S "$work/engine.sock" ] || :
compose() { (cd "$work/opt" && docker-compose --file compose.yml "$@"); }
# What a machine allows may be less than the guide's, and podman by itself asks for more processes.
sed -i "s/\"8080\"/\"$port\"/; s/nofile: 1048576/nofile: $(ulimit -H -n), nproc: 1024/" "$work/opt/compose.yml"
if ! compose up --detach --no-deps lowkey-server >"$work/up.log" 2>&1; then
    cat "$work/up.log"
    skipped=$((skipped + 1))
    echo 'skipped: this machine runs no containers'
    summary
    exit
fi
for _ in $(seq 200); do
    health=$(curl --silent "http://127.0.0.1:$port/health") && break || sleep 0.05
done
[ "$health" = '{"status":"ok"}' ] || { compose logs; fail "health: $health"; }
container=$("${podman[@]}" ps --quiet)
"${podman[@]}" healthcheck run "$container" || fail 'its health check fails'
"${podman[@]}" top "$container" user capeff | grep -q '^65532  *none$' || fail 'it has capabilities, or is somebody'
compose stop >"$work/stop.log" 2>&1
[ "$("${podman[@]}" inspect "$container" --format '{{.State.ExitCode}}')" = 0 ] || { compose logs; fail 'it did not end in order'; }
ok 'compose starts it in an engine, where it is well, and ends it in order'
summary
