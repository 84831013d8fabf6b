#!/usr/bin/env bash
# Tries our programs with pages in a real browser. Installs Chromium and the npm packages that it needs, if it may.
# Usage: test.sh FOLDER-OF-THE-PROGRAMS [PART-OF-A-CASE'S-NAME]
set -euo pipefail
programs=$(realpath "$1")
shift
cd "$(dirname "$0")"

if ! ../need.sh "chromium: ${CHROMIUM:-/usr/bin/chromium}" 'nodejs npm: npm'; then
    echo 'make test-browser is skipped'
    exit
fi
# As the lock file says, and only where that is not so already.
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund --silent
exec ../network.sh node test.js "$programs" "$@"
