#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# idle.sh: a relay with nothing to do does nothing: no system call while its connections rest, next to no processor time
# when they are stuck or half over, and little memory for many of them. Runs on the host; traced by strace where that is allowed.
#   ENGINE=user    the engine of splicectl relay
#   RELAY="..."    another relay altogether; LISTEN and TO in it stand for the two addresses
here=$(cd "$(dirname "$0")" && pwd)
. "$here/tap.sh"
top=$(cd "$here/.." && pwd)
PATH=$top/build:$top/build/bench:$PATH
front=17001 back=17002
relay_command=${RELAY:-splicectl relay --engine ${ENGINE:-user} --quiet --listen LISTEN --to TO}
relay_command=${relay_command//LISTEN/127.0.0.1:$front}
relay_command=${relay_command//TO/127.0.0.1:$back}

work=$(mktemp -d)
relay= holder=
cleanup() {
	for p in $holder $relay; do
		kill -9 "$p" 2> /dev/null
		wait "$p" 2> /dev/null
	done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

start_relay() {
	$relay_command > "$work/relay" 2>&1 &
	relay=$!
	until_true 5 listens $front && return
	tap_say < "$work/relay"
	relay=
	return 1
}

# hold STATE CONNECTIONS: brings them into the state; they stay in it until release
hold() {
	rm -f "$work/go"
	mkfifo "$work/go"
	load "$1" -c "$2" -s 16384 127.0.0.1:$back 127.0.0.1:$front < "$work/go" > "$work/held" 2>&1 &
	holder=$!
	exec 8> "$work/go"
	until_true 60 grep -q . "$work/held"
	grep -q ready "$work/held" || { tap_say < "$work/held"; return 1; }
}

release() {
	exec 8>&-
	wait "$holder"
	now $? "$1: the connections end with their owners"
	holder=
}

# Nanoseconds on a processor, all threads.
cpu_ns() { cat /proc/"$relay"/task/*/schedstat | awk '{ n += $1 } END { printf "%.0f\n", n }'; }

# lazy NAME: less than 1 % of a processor in 3 s
lazy() {
	local before used
	before=$(cpu_ns)
	sleep 3
	used=$(($(cpu_ns) - before))
	echo "# $1: $((used / 1000)) us of processor time in 3 s: $((used / 30000000)).$(printf %03d $((used / 30000 % 1000))) %"
	[ "$used" -lt 30000000 ]
	now $? "$1: less than 1 % of a processor"
}

# silent NAME: what strace -c counts in 5 s. It comes between calls: the wait that it breaks is not counted, and goes on.
silent() {
	local calls
	until_true 2 settled
	timeout -s INT 5.5 strace -f -c -o "$work/calls" -p "$relay" 2> "$work/strace"
	if ! grep -q attached "$work/strace"; then
		skip "$1: no system call in 5 s" "$(tail -n 1 "$work/strace")"
		return
	fi
	calls=$(awk '$NF == "total" { print $(NF - 1 - (NF > 5)) }' "$work/calls")
	tap_say < "$work/calls"
	echo "# $1: ${calls:-0} system calls in 5 s"
	[ "${calls:-0}" = 0 ]
	now $? "$1: no system call in 5 s"
}

# It has not run for a tenth of a second.
settled() {
	local before
	before=$(cpu_ns)
	sleep 0.1
	[ "$(cpu_ns)" = "$before" ]
}

pipes() { find /proc/"$relay"/fd -lname 'pipe:*' 2> /dev/null | wc -l; }
rss_kb() { awk '/^VmRSS/ { print $2 }' /proc/"$relay"/status; }

# lean NAME: what each of $many connections adds to the relay
lean() {
	local added=$(($(rss_kb) - rss_before))
	echo "# $1: $((added * 1024 / many)) bytes of memory for each of $many, $(pipes) pipes ($pipes_before before)"
	[ "$added" -le "$many" ]
	now $? "$1: at most 1 KB each"
	[ "$(pipes)" = "$pipes_before" ]
	now $? "$1: no pipe"
}

# state NAME CONNECTIONS CHECK...
state() {
	local name=$1 check
	hold "$name" "$2"
	now $? "$2 connections are $name"
	shift 2
	for check; do
		[ -z "$holder" ] || "$check" "$name"
	done
	release "$name"
}

start_relay
now $? "the relay listens"
if [ -n "$relay" ]; then
	have strace && nobody=silent || nobody=lazy
	$nobody "without a connection"
	if have strace; then
		state idle 100 silent lazy
	else
		skip "idle: no system call in 5 s" "no strace"
		state idle 100 lazy
	fi
	state stalled 2 lazy
	state stalled-closed 2 lazy
	state half-closed 2 lazy
	# two descriptors of each are the relay's, and two of each the load generator's
	many=$((($(ulimit -Hn) - 100) / 2))
	[ "$many" -le 9000 ] || many=9000
	rss_before=$(rss_kb) pipes_before=$(pipes)
	state idle "$many" lean lazy
fi
finish
