# The last part of deb.sh, which sources it behind booted.sh: the guide leads from the one server to three, in three Debians that
# have booted, with a private network between them. The first is the one from before.
# shellcheck shell=bash disable=SC2154

[ -n "${init:-}" ] || return 0

# The machines: a folder, control groups, the process that is the system, and the one that holds it.
roots=("$root" "$work/root2" "$work/root3")
inits=() containers=()
first_groups=("${groups[@]}")
# From here on all is done on this machine, by its number from 1. Usage: on NUMBER
on() {
    root=${roots[$1 - 1]} init=${inits[$1 - 1]:-}
    groups=("${first_groups[@]/%/-$1}")
}
ungroup_all() { for number in 1 2 3; do on "$number" && ungroup; done; }
trap 'finish; ungroup_all' EXIT

# The guide's file says ten seconds, which nobody has to wait for here.
sed -i 's/DRAIN_TIME=10s/DRAIN_TIME=1s/' "${roots[0]}/root/lowkey/deploy/lowkey-server-cluster.conf"
# What one server alone had of its own is not wanted on the others.
rm -rf "${roots[0]}/etc/systemd/system/lowkey-server.service.d"
cp -a "${roots[0]}" "${roots[1]}"
rm -f "${roots[1]}"/etc/systemd/system/multi-user.target.wants/{nginx,coturn}.service
cp -a "${roots[1]}" "${roots[2]}"
for number in 1 2 3; do
    on "$number"
    boot || fail "machine $number: $(tail -n 3 "$work/console")"
    inits[number - 1]=$init
    containers[number - 1]=$container
done

# The first machine is reached by the name, and by a cable from each of the others.
on 1
network
for number in 2 3; do
    nsenter --net --target "${inits[0]}" ip link add "to$number" type veth peer name private netns "${inits[number - 1]}"
    booted sh -euc "ip link set to$number up; ip address add 10.0.0.11 peer 10.0.0.1$number dev to$number"
done
for number in 2 3; do
    on "$number"
    booted sh -euc "ip link set private up; ip address add 10.0.0.1$number peer 10.0.0.11 dev private"
done

for number in 1 2 3; do
    on "$number"
    follow 'The server' 1 grep -v '^make'
    logged lowkey-server 'listening on 127.0.0.1:8080'
done
ok 'three Debians have a server each'

on 1
follow 'Several servers' 1 cat
grep -q PASSWORD "${roots[0]}/etc/redis/redis.conf" && fail 'the database has the password of the example'
for number in 2 3; do
    install -d "${roots[number - 1]}/etc/lowkey"
    cp -p "${roots[0]}"/etc/lowkey/cluster-* "${roots[number - 1]}/etc/lowkey/"
done
for number in 1 2 3; do
    on "$number"
    follow 'Several servers' 2 sed "s/^address=.*/address=10.0.0.1$number/"
    logged lowkey-server 'cluster: the database at 10.0.0.11:6379 can be asked'
done
# Usage: metric NAME; what it says on this machine
metric() { booted sh -c 'curl --silent "http://$(sed -n "s/^HOST=//p" /etc/default/lowkey-server):9090/metrics"' | sed -n "s/^$1 //p"; }
knows_all() { [ "$(metric lowkey_cluster_up) $(metric lowkey_cluster_nodes)" = '1 3' ]; }
for number in 1 2 3; do
    on "$number"
    soon knows_all || fail "server $number does not know of three"
done
ok 'a database with a password, and three servers over it, as the guide says'

on 1
follow 'Several servers' 3 cat
booted systemctl reset-failed bot 2>/dev/null || :
bot
logged bot 'online as echo'
# Whoever comes next is at another server.
for _ in 1 2 3; do chat; done
users=$(for number in 1 2 3; do on "$number" && metric 'lowkey_cluster_asks_total{kind="claim",result="answered"}'; done | grep -vc '^0$')
[ "$users" = 3 ] || fail "only $users servers have had users"
on 1
ok 'users at different servers chat, through nginx'

[ -z "$(booted find /var/lib/redis -type f)" ] || fail 'the database has written to disk'
booted redis-cli -h 10.0.0.11 ping | grep -q NOAUTH || fail 'the database lets anybody in'
ok 'the database keeps nothing on disk, and lets nobody in who does not know the password'

# Waits until so many users are online at all servers together: who had to go comes back in a moment.
online() {
    local users machine
    for _ in $(seq 400); do
        users=0
        for machine in 1 2 3; do
            on "$machine"
            users=$((users + $(metric lowkey_users | grep . || echo 0)))
        done
        on 1
        [ "$users" -ge "$1" ] && return
        sleep 0.05
    done
    fail "only $users of $1 users are online"
}

rm -f "$work/long.out"
{
    echo 'before'
    await "$work/long.out" 'echo: before'
    for number in 1 2 3; do
        on "$number"
        follow 'Several servers' 4 cat
        online 2
        chat
    done
    echo 'after'
    await "$work/long.out" 'echo: after'
} | { on 1 && booted lowkey --name carol --server wss://chat.example echo; } >"$work/long.out" 2>"$work/long.log" ||
    fail "$(cat "$work/long.log" "$work/followed")"
! grep -q 'replaced' "$work/long.log" || fail "$(cat "$work/long.log")"
ok 'all three are updated one after the other, while a chat goes on and others begin'

booted systemctl restart redis-server
for number in 1 2 3; do
    on "$number"
    soon knows_all || fail "server $number does not know of three again"
done
online 1
chat
ok 'a database that is restarted is told of all names again'

for container in "${containers[@]}"; do
    kill "$container"
    wait "$container" || fail 'a system did not halt in order'
done
processes=()
ungroup_all
