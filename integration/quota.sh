#!/usr/bin/env bash
# What one place may take of a relay, with the settings in deploy/ and the credentials that the server makes: thirty users behind one
# address are in a call each, and an address that takes everything leaves the others theirs. To be run where one is root of a network
# of one's own: unshare --user --map-root-user --net quota.sh FOLDER-OF-THE-PROGRAMS
set -euo pipefail
programs=$(realpath "$1")
cd "$(dirname "$0")/.."

# shellcheck source=integration/steps.sh
. integration/steps.sh

# Server and coturn in the middle, and two places with an address each.
public=203.0.113.1
ip link set lo up
ip address add "$public/32" dev lo
places=()
for number in 1 2; do
    unshare --net sleep 1000 &
    place=$!
    processes+=("$place")
    places+=("$place")
    until [ "$(readlink "/proc/$place/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
    ip link add "to$number" type veth peer name out netns "$place"
    ip address add "198.51.100.$((4 * number + 1))/30" dev "to$number"
    ip link set "to$number" up
    nsenter --target "$place" --net sh -ec "ip link set lo up; ip address add 198.51.100.$((4 * number + 2))/30 dev out; ip link set out up
        ip route add default via 198.51.100.$((4 * number + 1))"
done
# Becomes a command in a place, so that the process to be ended is that command. Usage, in a shell of its own: at PLACE COMMAND...
at() { exec nsenter --target "${places[$1]}" --net "${@:2}"; }

setting() { sed -n "s/^$1=//p" deploy/turnserver.conf; }
sed 's/REPLACE-THIS/n0rth/' deploy/turnserver.conf >"$work/turnserver.conf"
printf 'listening-ip=%s\nrelay-ip=%s\npidfile=%s/pid\nuserdb=%s/db\n' "$public" "$public" "$work" "$work" >>"$work/turnserver.conf"
turnserver -c "$work/turnserver.conf" >"$work/coturn.log" 2>&1 &
processes+=($!)
HOST=$public PORT=8080 TURN_URLS=stun:$public,turn:$public TURN_SECRET=n0rth "$programs/lowkey-server" 2>"$work/server.log" &
processes+=($!)
await "$work/server.log" 'listening on'
await "$work/coturn.log" 'auth thread'

# An office, each of whom has a call with a bot of another place.
office=30
HOME=$work/bot at 1 "$programs/lowkey-bot" --server "ws://$public:8080" --relay-only 2>"$work/bot.log" &
processes+=($!)
await "$work/bot.log" 'online as echo'
mkfifo "$work/hold"
users=()
for number in $(seq "$office"); do
    HOME=$work/user$number at 0 "$programs/lowkey" --server "ws://$public:8080" --relay-only --name "user_$number" echo \
        <"$work/hold" >"$work/out$number" 2>"$work/err$number" &
    users+=($!)
done
processes+=("${users[@]}")
exec 3>"$work/hold"
for number in $(seq "$office"); do await "$work/err$number" 'connected with echo'; done
ok "$office users behind one address are in a call each"
exec 3>&-
for user in "${users[@]}"; do wait "$user" || :; done

# Somebody who wants all there is, with new names for each hundred relays, and somebody of another place after that.
quota=$(setting user-quota)
take() { at "$1" /usr/bin/python3 integration/quota.py "$public" 8080 "$public" "${@:2}"; }
mkfifo "$work/greed"
take 0 $((quota + 100)) 100 <"$work/greed" >"$work/greedy" &
greedy=$!
processes+=("$greedy")
exec 4>"$work/greed"
until grep -qs ' ' "$work/greedy"; do
    kill -0 "$greedy" || fail 'no relays are granted'
    sleep 0.1
done
read -r taken names <"$work/greedy"
[ "$taken" -le "$quota" ] && [ "$taken" -ge $((quota * 8 / 10)) ] || fail "$taken relays were taken, of $quota"
[ "$(wc -w <<<"$names")" = 1 ] || fail "a new name is a new user: $names"
ok "an address gets $taken relays, whatever its users are called"
read -r others other <<<"$(take 1 "$office" "$office" </dev/null)"
[ "$others" = "$office" ] && [ "$other" != "$names" ] || fail "another address got $others relays"
ok 'another address gets its own'
exec 4>&-
summary
