#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# soak.sh [NAME=VALUE]...: many connections through "splicectl relay" for a while, over a link that loses, doubles and
# reorders packets; every byte of every stream is looked at. As root; in two network namespaces of its own.
#   MINUTES=1 CONNECTIONS=200 ENGINE=user (in a guest: kmod) MOST=4194304, of bytes each way SEED=1
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

cleanup() {
	[ -z "$relay" ] || { kill -9 "$relay"; wait "$relay"; } 2> /dev/null
	ip netns del "$ours" 2> /dev/null
	ip netns del "$theirs" 2> /dev/null
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# The relay is in "theirs", both of its peers in "ours": what it gets and what it sends goes over the link.
link() {
	ip netns add "$ours" && ip netns add "$theirs" || return 1
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
	ip netns exec "$theirs" splicectl relay --listen 10.98.0.2:5000 --to 10.98.0.1:5001 --engine "$engine" \
		${RELAY_OPTIONS---connect-timeout 60} > "$work/relay" 2>&1 &
	relay=$!
	until_true 20 relay_listens || { tap_say < "$work/relay"; return 1; }
}
relay_listens() { ip netns exec "$theirs" grep -q ':1388 00000000:0000 0A' /proc/net/tcp; }

none_left() { [ "$(ip netns exec "$theirs" splicectl --json list | grep -c '"token"')" = 0 ]; }

# The program of the relay is a child of "ip", or has taken its place.
relay_memory() { awk '/VmHWM/ { print $2 }' "/proc/$relay/status"; }

if [ "$(id -u)" != 0 ] || ! have ip tc; then
	skip soak "wants root, ip and tc"
	finish
fi
link
now $? "two namespaces and a link" || finish
if [ -n "$netem" ] && { ! spoil "$ours" soak0 || ! spoil "$theirs" soak1; } 2> "$work/tc"; then
	tap_say < "$work/tc"
	skip "$engine: a link that spoils" "this kernel has no sch_netem: NETEM= goes without"
	finish
fi
relay_up
now $? "$engine: the relay listens"
[ $tap_failed = 0 ] || finish
ip netns exec "$ours" soak -c "$connections" -t "$seconds" -s "${MOST:-4194304}" -r "${SEED:-1}" \
	10.98.0.1:5001 10.98.0.2:5000 > "$work/soak" 2>&1
now $? "$engine: $connections connections for $seconds s, ${netem:-no faults}: every stream as it was sent"
tail -n 25 "$work/soak" | tap_say
[ $tap_failed = 0 ] || tail -n 25 "$work/relay" | sed 's/^/# relay: /'
tc -n "$theirs" -s qdisc show dev soak1 | sed -n 's/^ Sent/link: sent/p' | tap_say
echo "# relay: at most $(relay_memory) KB"
kill -0 "$relay"
now $? "$engine: the relay is still there"
[ "$engine" != kmod ] || ok "no operation is left" until_true 30 none_left
finish
