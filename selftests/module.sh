#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# module.sh: the module's life: in use it stays, flushed it goes, and what it carries outlives its owner.
# Runs in the guest, as root, with the module's file in $MODULE and "hold", "peer", splicectl at hand.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/tap.sh"
MODULE=${MODULE:-/usr/lib/sksplice.ko}
PATH=$here:$PATH
flows=500 cycles=100 bytes=2000000
[ -z "${SPL_TEST_BRIEF:-}" ] || flows=100 cycles=15 bytes=300000

loaded() { [ -d /sys/module/sksplice ]; }
load() { loaded || insmod "$MODULE"; }
unload() { rmmod sksplice && ! loaded; }
in_use() { cat /sys/module/sksplice/refcnt; }

# start_hold N: a process that keeps N pairs; its pid is in $holder
start_hold() {
	rm -f hold.out
	hold "$1" > hold.out 2>&1 &
	holder=$!
	until_true 120 grep -q ready hold.out || { cat hold.out; return 1; }
}

stop_hold() {
	kill -9 "$holder"
	wait "$holder" 2> /dev/null
	true
}

load || { echo "Bail out! $MODULE cannot be loaded"; exit 1; }

# A shell loses its child when $() runs start_hold: it is called here, in this shell.
start_hold $flows
now $? "$flows pairs are held"
ok "they are all listed" has_operations $flows
echo "# reference count $(in_use)"
fails "rmmod is refused while they live" rmmod sksplice
ok "the module is still there" loaded
ok "and so are the flows" test "$(in_use)" -ge 1
ok "flush ends them" splicectl flush --yes
ok "the list is empty" has_operations 0
# the owner is still there, its completions unread
ok "rmmod works with the owner alive" until_true 5 unload
stop_hold

failed=0 i=0
while [ $i -lt $cycles ] && [ $failed = 0 ]; do
	load && start_hold 3 && splicectl flush --yes > cycle.out 2>&1 || failed=1
	[ $((i % 2)) = 0 ] || stop_hold
	[ $failed = 1 ] || until_true 5 unload || failed=1
	[ $((i % 2)) = 1 ] || stop_hold
	i=$((i + 1))
done
[ $failed = 0 ] || { echo "# in cycle $i"; tap_say < cycle.out; }
now $failed "$cycles cycles of load, splice, flush, unload"

# No flush: the peers close, and that is all.
ok "load" load
start_hold 10
stop_hold
ok "rmmod works when the peers have gone" until_true 10 unload

# A relay that is killed: what it has spliced completes.
ok "load once more" load
peer serve 7002 &
server=$!
until_true 10 listens 7002
splicectl relay --listen 127.0.0.1:7001 --to 127.0.0.1:7002 --engine kmod > relay.out 2>&1 &
relay=$!
until_true 10 listens 7001
now $? "the relay listens"
peer load 7001 50 $bytes go > load.out 2>&1 &
client=$!
ok "every connection is spliced" until_true 60 has_operations 50
touch go
sleep 0.3
kill -9 $relay
fails "it was killed before the transfers were over" grep -q complete load.out
wait $relay 2> /dev/null
wait $client
now $? "transfers complete though their relay was killed"
tap_say < load.out
ok "verified to the last byte" grep -q complete load.out
kill -9 $server
wait $server 2> /dev/null
ok "all flows end with their connections" until_true 20 unload
load
finish
