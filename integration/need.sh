#!/bin/sh
# Installs Debian packages that this machine lacks, if it may. A package is there if the command of its name is, or the one behind its
# name; more than one word behind it are a command that has to succeed. Usage: need.sh 'PACKAGE...[: COMMAND...]'...
set -eu
needed=''
for need in "$@"; do
    check=${need#*: }
    case $check in *' '*) ;; *) check="command -v $check" ;; esac
    sh -c "$check" >/dev/null 2>&1 || needed="$needed ${need%%: *}"
done
[ -n "$needed" ] || exit 0
# shellcheck disable=SC2086
if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $needed; } >/dev/null; then
    echo "this machine has no$needed, and it cannot be installed" >&2
    exit 1
fi
