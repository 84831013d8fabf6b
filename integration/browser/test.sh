#!/usr/bin/env bash
# Tries our programs with pages in a real browser. Installs Chromium and the npm packages that it needs, if it may.
# Usage: test.sh FOLDER-OF-THE-PROGRAMS [PART-OF-A-CASE'S-NAME]
set -euo pipefail
programs=$(realpath "$1")
shift
cd "$(dirname "$0")"

needed=''
command -v "${CHROMIUM:-/usr/bin/chromium}" >/dev/null || needed+=' chromium'
command -v npm >/dev/null || needed+=' nodejs npm'
if [ -n "$needed" ]; then
    # shellcheck disable=SC2086
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $needed; } >/dev/null; then
        echo "make test-browser is skipped: this machine has no$needed, and it cannot be installed"
        exit 0
    fi
fi
# As the lock file says, and only where that is not so already.
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund --silent
exec ../network.sh node test.js "$programs" "$@"
