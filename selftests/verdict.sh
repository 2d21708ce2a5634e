#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# verdict.sh: what selftests/vm/tap-sum makes of logs, good and bad. Runs on the host.
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/selftests/tap.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# verdict NAME "P passed, F failed, S skipped" LINE...: a point. LINE begin and end stand for the marks of a test.
verdict() {
	local name=$1 want=$2 got rc
	shift 2
	printf '%s\n' "$@" | sed -e 's/^begin$/# test t begin limit=5/' -e 's/^end \(.*\)$/# test t end rc=\1 seconds=1/' > "$work/log"
	got=$("$top/selftests/vm/tap-sum" --total "$work/log")
	rc=$?
	[ "$got" = "$want" ] || echo "# $got"
	case $want in *' 0 failed'*) [ $rc -eq 0 ] ;; *) [ $rc -ne 0 ] ;; esac && [ "$got" = "$want" ]
	now $? "$name"
}

verdict "all pass" "2 passed, 0 failed, 0 skipped" begin 1..2 'ok 1 a' 'ok 2 b' 'end 0'
verdict "the plan may come last" "1 passed, 0 failed, 0 skipped" begin 'ok 1 a' 1..1 'end 0'
verdict "a point fails" "1 passed, 1 failed, 0 skipped" begin 1..2 'ok 1 a' 'not ok 2 b' 'end 1'
verdict "a failed point counts though it returns 0" "0 passed, 1 failed, 0 skipped" begin 1..1 'not ok 1 a' 'end 0'
verdict "a skip is no pass" "0 passed, 0 failed, 1 skipped" begin 1..1 'ok 1 a # SKIP why' 'end 0'
verdict "all may be skipped at once" "0 passed, 0 failed, 1 skipped" begin '1..0 # SKIP why' 'end 4'
verdict "an empty plan needs a reason" "0 passed, 1 failed, 1 skipped" begin 1..0 'end 0'
verdict "points missing" "1 passed, 2 failed, 0 skipped" begin 1..3 'ok 1 a' 'end 0'
verdict "points too many" "2 passed, 1 failed, 0 skipped" begin 1..1 'ok 1 a' 'ok 2 b' 'end 0'
verdict "no plan" "1 passed, 1 failed, 0 skipped" begin 'ok 1 a' 'end 0'
verdict "no output" "0 passed, 1 failed, 0 skipped" begin 'end 0'
verdict "no end" "1 passed, 1 failed, 0 skipped" begin 1..1 'ok 1 a'
verdict "no end, and the next begins" "2 passed, 1 failed, 0 skipped" begin 1..1 'ok 1 a' \
	'# test u begin' 1..1 'ok 1 b' '# test u end rc=0 seconds=1'
verdict "all pass, but it returns an error" "1 passed, 1 failed, 0 skipped" begin 1..1 'ok 1 a' 'end 1'
verdict "killed by the time limit" "1 passed, 1 failed, 0 skipped" begin 1..1 'ok 1 a' \
	'# test t end rc=137 seconds=5.1'
verdict "bailed out" "1 passed, 1 failed, 0 skipped" begin 1..1 'ok 1 a' 'Bail out! why' 'end 1'
verdict "a splat" "1 passed, 1 failed, 0 skipped" begin 1..1 'ok 1 a' 'end 0' '# test t splat: BUG: x'
verdict "never begun" "0 passed, 1 failed, 0 skipped" '# test t fail: it was not run'
verdict "indented points are a sub-test's" "1 passed, 0 failed, 0 skipped" begin 1..1 '  not ok 1 x' 'ok 1 a' 'end 0'
verdict "no test at all" "0 passed, 1 failed, 0 skipped" '# vm done'

# The messages of a kernel that must be seen, and those that must not.
splat() { echo "$1" | grep -qE -f "$top/selftests/vm/splats"; }
while IFS= read -r line; do
	ok "seen: $line" splat "$line"
done <<END
BUG: KASAN: slab-use-after-free in x
WARNING: CPU: 0 PID: 1 at net/core/sock.c:1
WARNING: possible circular locking dependency detected
WARNING: suspicious RCU usage
INFO: task t:1 blocked for more than 30 seconds.
rcu: INFO: rcu_preempt self-detected stall on CPU
general protection fault, probably for non-canonical address
Oops: 0000 [#1] PREEMPT SMP
refcount_t: underflow; use-after-free.
UBSAN: array-index-out-of-bounds in x
unreferenced object 0xffff888 (size 32):
END
fails "not seen: an ordinary message" splat "sksplice: loading out-of-tree module taints kernel."
fails "not seen: kmemleak's start" splat "kmemleak: Kernel memory leak detector initialized (mem pool available: 11562)"
fails "not seen: kasan's start" splat "kasan: KernelAddressSanitizer initialized"
finish
