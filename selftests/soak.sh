#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# soak.sh [NAME=VALUE]...: many connections through "splicectl relay" for a while, over a link that loses, doubles and
# reorders packets; every byte of every stream is looked at. As root; in two network namespaces of its own.
#   MINUTES=1 CONNECTIONS=200 ENGINE=user (in a guest: kmod) MOST=4194304, of bytes each way SEED=1
#   ENGINE=sockmap: sk_skb mode. ENGINE=local, ENGINE=bypass: these modes of it, for which all is in one namespace and one
#   cgroup, and the link is its loopback device
#   NETEM="loss 1% duplicate 2% delay 2ms reorder 2%"   for both directions; empty: a link without faults
#   RELAY_OPTIONS="--connect-timeout 60"   of splicectl relay: where a SYN may be lost several times, 5 s can be too short
here=$(cd "$(dirname "$0")" && pwd)
. "$here/tap.sh"
PATH=$here:$here/../build:$here/../build/selftests:/usr/sbin:/sbin:$PATH
for setting; do export "${setting?}"; done
engine=user
[ "$here" != /t ] || engine=kmod
engine=${ENGINE:-$engine}
netem=${NETEM-loss 1% duplicate 2% delay 2ms reorder 2%}
connections=${CONNECTIONS:-200}
seconds=$(awk -v m="${MINUTES:-1}" 'BEGIN { printf "%d", m * 60 + 0.5 }')
ours=soak-o$$ theirs=soak-t$$
work=$(mktemp -d)
relay=
group=

cleanup() {
	[ -z "$relay" ] || { kill -9 "$relay"; wait "$relay"; } 2> /dev/null
	ip netns del "$ours" 2> /dev/null
	ip netns del "$theirs" 2> /dev/null
	[ -z "$group" ] || rmdir "$group"
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

is_local() { [ "$engine" = local ] || [ "$engine" = bypass ]; }

# The cgroup of the programs, of the hierarchy v2, wherever that is.
group() {
	group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)/soak$$
	mkdir "$group"
}

# inside COMMAND...: in "ours", and in the cgroup if there is one. Not "ip netns exec", which hides the cgroups
inside() {
	(
		[ -z "$group" ] || echo 0 > "$group/cgroup.procs"
		exec nsenter --net="/run/netns/$ours" "$@"
	)
}

# The relay is in "theirs", both of its peers in "ours": what it gets and what it sends goes over the link.
link() {
	ip netns add "$ours" || return 1
	if is_local; then
		theirs=$ours
		ip -n "$ours" link set lo up
		group
		return
	fi
	ip netns add "$theirs" || return 1
	ip -n "$ours" link add soak0 type veth peer name soak1 netns "$theirs" || return 1
	ip -n "$ours" addr add 10.98.0.1/24 dev soak0
	ip -n "$theirs" addr add 10.98.0.2/24 dev soak1
	ip -n "$ours" link set soak0 up && ip -n "$theirs" link set soak1 up &&
		ip -n "$ours" link set lo up && ip -n "$theirs" link set lo up
}

# spoil NAMESPACE DEVICE
spoil() {
	# shellcheck disable=SC2086
	tc -n "$1" qdisc add dev "$2" root netem limit 20000 $netem
}

relay_up() {
	# shellcheck disable=SC2086
	nsenter --net="/run/netns/$theirs" splicectl relay --listen "$at:5000" --to "$to:5001" $how \
		${RELAY_OPTIONS---connect-timeout 60} > "$work/relay" 2>&1 &
	relay=$!
	until_true 20 relay_listens || { tap_say < "$work/relay"; return 1; }
}
relay_listens() { ip netns exec "$theirs" grep -q ':1388 00000000:0000 0A' /proc/net/tcp; }

none_left() { [ "$(ip netns exec "$theirs" splicectl --json list | grep -c '"token"')" = 0 ]; }

# Both ends of the connections whose bytes have stopped.
stuck_sockets() {
	local side port
	for port in $(sed -n 's/^its port: //p' "$work/soak" | grep -vx 5001 | head -n 5); do
		for side in ours theirs; do grep -A 1 ":$port\>" "$work/$side" | tap_say; done
	done
}

# nsenter has become the relay.
relay_memory() { awk '/VmHWM/ { print $2 }' "/proc/$relay/status"; }

if [ "$(id -u)" != 0 ] || ! have ip tc; then
	skip soak "wants root, ip and tc"
	finish
fi
at=10.98.0.2 to=10.98.0.1 device=soak1 how="--engine $engine"
! is_local || at=127.0.0.2 to=127.0.0.1 device=lo
link
now $? "a link" || finish
! is_local || how="--engine sockmap --cgroup $group"
[ "$engine" != bypass ] || how="$how --bypass"
if [ -n "$netem" ] && { ! spoil "$theirs" $device || { [ $device = soak1 ] && ! spoil "$ours" soak0; }; } 2> "$work/tc"; then
	tap_say < "$work/tc"
	skip "$engine: a link that spoils" "this kernel has no sch_netem: NETEM= goes without"
	finish
fi
relay_up
now $? "$engine: the relay listens"
[ $tap_failed = 0 ] || finish
inside soak -c "$connections" -t "$seconds" -s "${MOST:-4194304}" -r "${SEED:-1}" \
	-x "ss -tniom > $work/ours; nsenter --net=/run/netns/$theirs ss -tniom > $work/theirs" "$to:5001" "$at:5000" > "$work/soak" 2>&1
now $? "$engine: $connections connections for $seconds s, ${netem:-no faults}: every stream as it was sent"
grep -A 1 stuck "$work/soak" | head -n 20 | tap_say
tail -n 25 "$work/soak" | tap_say
stuck_sockets
[ $tap_failed = 0 ] || tail -n 25 "$work/relay" | sed 's/^/# relay: /'
tc -n "$theirs" -s qdisc show dev $device | sed -n 's/^ Sent/link: sent/p' | tap_say
echo "# relay: at most $(relay_memory) KB"
kill -0 "$relay"
now $? "$engine: the relay is still there"
[ "$engine" != kmod ] || ok "no operation is left" until_true 30 none_left
finish
