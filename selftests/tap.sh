# SPDX-License-Identifier: GPL-2.0
# tap.sh: TAP for the shell tests; read with "." by them, no test itself.
#   ok NAME COMMAND...      a point: passes when the command succeeds
#   fails NAME COMMAND...   a point: passes when it does not
#   skip NAME WHY           a point that cannot be tried here
#   until_true SECONDS COMMAND...   tries it every 0.1 s
#   now RESULT NAME         a point from an exit status
#   finish                  the plan and the verdict
#   operations, has_operations N, listens PORT, not COMMAND, have PROGRAM...
# Output of commands comes as comments.
tap_points=0
tap_failed=0

now() {
	tap_points=$((tap_points + 1))
	if [ "$1" = 0 ]; then
		echo "ok $tap_points $2"
	else
		echo "not ok $tap_points $2"
		tap_failed=1
	fi
}

tap_say() { sed 's/^/# /'; }

ok() {
	tap_name=$1
	shift
	tap_out=$("$@" 2>&1)
	tap_rc=$?
	[ -z "$tap_out" ] || echo "$tap_out" | tail -n 5 | tap_say
	now $tap_rc "$tap_name"
}

fails() {
	tap_name=$1
	shift
	tap_out=$("$@" 2>&1)
	tap_rc=$?
	[ -z "$tap_out" ] || echo "$tap_out" | tail -n 5 | tap_say
	now $((tap_rc == 0)) "$tap_name"
}

skip() {
	tap_points=$((tap_points + 1))
	echo "ok $tap_points $1 # SKIP $2"
}

until_true() {
	tap_tries=$(($1 * 10))
	shift
	while ! "$@" > /dev/null 2>&1; do
		tap_tries=$((tap_tries - 1))
		[ $tap_tries -gt 0 ] || return 1
		sleep 0.1
	done
}

operations() { splicectl --json list | grep -o '"token"' | wc -l; }
has_operations() { [ "$(operations)" = "$1" ]; }
listens() { grep -q ":$(printf %04X "$1") 00000000:0000 0A" /proc/net/tcp; }
not() { ! "$@"; }

have() {
	for tap_program; do
		command -v "$tap_program" > /dev/null 2>&1 || return 1
	done
}

finish() {
	echo "1..$tap_points"
	exit $tap_failed
}
