#!/usr/bin/env bash
# Sends a file by magic-wormhole and by lowkey in turns, and prints what each takes. Makes a Python environment of its own.
# Usage: wormhole.sh FOLDER-OF-THE-PROGRAMS FOLDER-OF-THE-ENVIRONMENT [ROUNDS]
set -euo pipefail
programs=$(realpath "$1")
mkdir -p "$2"
environment=$(realpath "$2")
here=$(dirname "$0")
if [ ! -x "$environment/bin/wormhole" ]; then
    if ! python3 -c 'import ensurepip' 2>/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends python3 python3-venv >/dev/null
    fi
    python3 -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet --only-binary :all: magic-wormhole==0.24.0 magic-wormhole-mailbox-server==0.8.0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$environment/bin/python" "$here/wormhole.py" "$programs" "$scratch" "${3:-5}"
