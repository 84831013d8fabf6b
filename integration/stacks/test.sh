#!/usr/bin/env bash
# Tries our programs with other implementations of WebRTC: those for Node.js, and two versions of aiortc, each in a Python
# environment of its own. Installs Debian, npm and Python packages, if it may.
# Usage: test.sh FOLDER-OF-THE-PROGRAMS FOLDER-OF-THE-ENVIRONMENTS
set -euo pipefail
programs=$(realpath "$1")
mkdir -p "$2"
environments=$(realpath "$2")
cd "$(dirname "$0")"

../need.sh 'nodejs npm: npm' 'python3 python3-venv: python3 -c "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"'
# As the lock files say, and only where that is not so already. The peer is the browser's.
for folder in . ../browser; do
    (cd "$folder" && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund --silent; })
done
for requirements in aiortc-1.14.txt ../aiortc/requirements.txt; do
    environment=$environments/$(sed -n 's/^aiortc==/aiortc-/p' "$requirements")
    if ! cmp -s "$requirements" "$environment/requirements.txt"; then
        python3 -m venv --clear "$environment"
        "$environment/bin/pip" install --quiet --only-binary :all: --requirement "$requirements"
        cp "$requirements" "$environment/requirements.txt"
    fi
done

status=0
../network.sh node test.js "$programs" || status=1
# Each of them, and Chromium where it is there.
../network.sh node losses.js "$programs" "$environments" || status=1
for environment in "$environments"/aiortc-*; do
    PYTHONDONTWRITEBYTECODE=1 ../network.sh "$environment/bin/python" versions.py "$programs" || status=1
done
exit $status
