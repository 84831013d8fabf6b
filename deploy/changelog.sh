#!/bin/sh
# release.md on standard input, as a Debian changelog. Usage: changelog.sh PACKAGE
# Lines of release.md are short enough to fit. Debian wants a date for each version: that of its tag, or of the last commit.
set -eu
cd "$(dirname "$0")/.."
package=$1
maintainer=$(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)
end() {
    commit=$(git rev-parse --quiet --verify "refs/tags/v$1^{commit}" || echo HEAD)
    printf '\n -- %s  %s\n\n' "$maintainer" "$(git log -1 --format=%aD "$commit" 2>/dev/null || date --rfc-email)"
}
version=''
while IFS= read -r line; do
    case $line in
        '# '*)
            [ -z "$version" ] || end "$version"
            version=${line#\# }
            printf '%s (%s-1) stable; urgency=medium\n\n' "$package" "$version"
            ;;
        '') ;;
        '* '* | '  '*) printf '  %s\n' "$line" ;;
        *) printf '  * %s\n' "$line" ;;
    esac
done
end "$version"
