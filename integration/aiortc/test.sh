#!/usr/bin/env bash
# Tries our programs with peers on aiortc and PyNaCl, in a Python environment of their own.
# Usage: test.sh FOLDER-OF-THE-PROGRAMS FOLDER-OF-THE-ENVIRONMENT [PART-OF-A-CASE'S-NAME]
set -euo pipefail
programs=$(realpath "$1")
mkdir -p "$2"
environment=$(realpath "$2")
shift 2
cd "$(dirname "$0")"

# As the list of requirements says, and only where that is not so already.
if ! cmp -s requirements.txt "$environment/requirements.txt"; then
    ../need.sh 'python3 python3-venv: python3 -c "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"'
    python3 -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet --only-binary :all: --requirement requirements.txt
    cp requirements.txt "$environment"
fi
PYTHONDONTWRITEBYTECODE=1 exec ../network.sh "$environment/bin/python" test.py "$programs" "$@"
