#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# verdict.sh: what selftests/vm/tap-sum makes of logs, good, bad and damaged, and that selftests/vm/collect loses
# nothing that a test says. Runs on the host.
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/selftests/tap.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
collect=$("$top/selftests/vm/program" collect) || { echo "Bail out! collect does not build"; exit 1; }
mkdir "$work/here"
sum() { (cd "$work/here" && "$top/selftests/vm/tap-sum" "$@"); }

# log LINE...: the log of these lines. "begin [NAME]" and "end RC" stand for the marks of a test; what is between them
# goes through collect, as it does in a guest.
log() {
	local line name=t said=''
	for line in "$@"; do
		case $line in
		begin | 'begin '*)
			printf %s "$said"
			name=${line#begin} name=${name# } name=${name:-t} said=''
			echo "# test $name begin limit=5"
			;;
		'end '*)
			printf '%s' "$said" | "$collect" "$name" 5
			echo "# test $name end rc=${line#end } seconds=${seconds:-1}"
			said=''
			;;
		'# test '* | '# vm '*) printf %s "$said"; said=''; echo "$line" ;;
		*) said+=$line$'\n' ;;
		esac
	done
	printf %s "$said"
}

# judged NAME "P passed, F failed, S skipped": a point, what tap-sum makes of $work/log
judged() {
	local got rc
	got=$(sum --total "$work/log")
	rc=$?
	[ "$got" = "$2" ] || echo "# $got"
	case $2 in *' 0 failed'*) [ $rc -eq 0 ] ;; *) [ $rc -ne 0 ] ;; esac && [ "$got" = "$2" ]
	now $? "$1"
}

# verdict NAME "P passed, F failed, S skipped" LINE...
verdict() {
	local name=$1 want=$2
	shift 2
	log "$@" > "$work/log"
	judged "$name" "$want"
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
verdict "one twice does not make up for one missing" "2 passed, 2 failed, 0 skipped" begin 1..2 'ok 1 a' 'ok 1 a' 'end 0'
verdict "no plan" "1 passed, 1 failed, 0 skipped" begin 'ok 1 a' 'end 0'
verdict "no output" "0 passed, 1 failed, 0 skipped" begin 'end 0'
verdict "no end" "1 passed, 1 failed, 0 skipped" begin 1..1 'ok 1 a'
verdict "no end, and the next begins" "2 passed, 1 failed, 0 skipped" begin 1..1 'ok 1 a' \
	'begin u' 1..1 'ok 1 b' 'end 0'
verdict "all pass, but it returns an error" "1 passed, 1 failed, 0 skipped" begin 1..1 'ok 1 a' 'end 1'
seconds=5.1 verdict "killed by the time limit" "1 passed, 1 failed, 0 skipped" begin 1..1 'ok 1 a' 'end 137'
verdict "bailed out" "1 passed, 1 failed, 0 skipped" begin 1..1 'ok 1 a' 'Bail out! why' 'end 1'
verdict "a splat" "1 passed, 1 failed, 0 skipped" begin 1..1 'ok 1 a' 'end 0' '# test t splat: BUG: x'
verdict "never begun" "0 passed, 1 failed, 0 skipped" '# test t fail: it was not run'
verdict "indented points are a sub-test's" "1 passed, 0 failed, 0 skipped" begin 1..1 '  not ok 1 x' 'ok 1 a' 'end 0'
verdict "no test at all" "0 passed, 1 failed, 0 skipped" '# vm done'

log begin 1..9 'ok 1 a' 'ok 3 c' 'ok 4 d' 'ok 9 i' 'end 0' > "$work/log"
says() { sum "$work/log" | grep -qF -- "$1" || { sum "$work/log"; false; }; }
ok "it names the points that are missing" says "5 of 9 points are missing: 2, 5-8 (rc 0)"

# Damage on the way. The lines are 1 begin, 2 plan, 3 to 6 the output, 7 sent, 8 end.
damaged() {
	log begin 1..3 'ok 1 a' 'ok 2 b' '# words' 'ok 3 c' 'end 0' | sed "$2" > "$work/log"
	judged "damage: $1" "$3"
}
damaged "none" '' "3 passed, 0 failed, 0 skipped"
damaged "a point is lost" '4d' "2 passed, 2 failed, 0 skipped"
damaged "a comment is lost" '5d' "3 passed, 1 failed, 0 skipped"
damaged "two lines are joined" '4{N;s/\n//}' "3 passed, 1 failed, 0 skipped"
damaged "a point is joined to a comment" '5{N;s/\n//}' "2 passed, 2 failed, 0 skipped"
damaged "a character is another" '5s/w/v/' "3 passed, 1 failed, 0 skipped"
damaged "a character is more" '4s/$/./' "3 passed, 1 failed, 0 skipped"
damaged "a character is lost" '5s/w//' "3 passed, 1 failed, 0 skipped"
damaged "two lines have changed places" '4{h;d};5{G}' "3 passed, 1 failed, 0 skipped"
damaged "a line came twice" '5p' "3 passed, 1 failed, 0 skipped"
damaged "it is not known what was sent" '7d' "3 passed, 1 failed, 0 skipped"
damaged "points that come after all was sent" '7{p;s/.*/ok 4 d/}' "3 passed, 0 failed, 0 skipped"
damaged "the end is lost" '8d' "3 passed, 1 failed, 0 skipped"

# What a test says is in the log, however it says it. said NAME RC LIMIT VERDICT SCRIPT
said() {
	local rc
	echo "# test t begin limit=$3" > "$work/log"
	timeout 20 "$collect" t "$3" sh -c "$5" < /dev/null >> "$work/log" 2>&1
	rc=$?
	echo "# test t end rc=$rc seconds=$3" >> "$work/log"
	[ $rc -eq "$2" ] || { echo "# it returned $rc"; false; }
	now $? "$1: the result"
	judged "$1" "$4"
}
said "an unfinished line of standard error" 0 9 "2 passed, 0 failed, 0 skipped" \
	'printf chatter >&2; echo ok 1 a; printf more >&2; echo ok 2 b; echo 1..2'
said "standard error makes no points" 1 9 "1 passed, 1 failed, 0 skipped" \
	'echo 1..1; echo ok 1 a; echo 1..7 >&2; echo ok 2 b >&2; echo not ok 3 >&2; exit 1'
said "a last line without its end" 0 9 "1 passed, 0 failed, 0 skipped" 'echo 1..1; printf "ok 1 a"'
said "nobody but the harness makes marks" 0 9 "1 passed, 0 failed, 0 skipped" \
	'echo "# test t sent lines=0 sum=0"; echo "# test t splat: x"; echo "# vm done" >&2; echo 1..1; echo ok 1 a'
said "control characters and long lines" 0 9 "1 passed, 0 failed, 0 skipped" \
	'printf "\001\177\000\033\r\n"; head -c 3999 /dev/zero; printf " ok 2 b\nok 1 a\n1..1\n"'
said "it is stopped in time" 137 1 "1 passed, 1 failed, 0 skipped" 'echo 1..1; echo ok 1 a; sleep 15; echo ok 2'
said "nobody waits for what it left behind" 0 4 "1 passed, 0 failed, 0 skipped" 'sleep 7 & echo 1..1; echo ok 1 a'
said "nor for what goes on writing" 0 15 "1 passed, 0 failed, 0 skipped" \
	'echo 1..1; echo ok 1 a; trap "" PIPE; (sleep 0.1; timeout 2 yes >&2 2> /dev/null) & sleep 0.5'
said "killed by a signal" 139 9 "1 passed, 1 failed, 0 skipped" 'echo 1..1; echo ok 1 a; kill -SEGV $$'
said "many lines, and others that talk" 0 15 "20000 passed, 0 failed, 0 skipped" '
	for i in 1 2 3; do (while printf "ok %d" $i; do :; done) >&2 2> /dev/null & done
	seq -f "ok %.0f a point" 20000; kill $(jobs -p); echo 1..20000'
"$collect" t 9 /nowhere > "$work/out"
now $(($? != 127)) "a program that is not there"

# The second attempt.
bad=(begin 1..2 'ok 1 a' 'not ok 2 b' 'end 1')
good=(begin 1..2 'ok 1 a' 'ok 2 b' 'end 0')
again='# test t again: not ok 2 b'
verdict "a second attempt that passes" "2 passed, 0 failed, 0 skipped" "${bad[@]}" "$again" "${good[@]}"
ok "it is said" says "# flaky: t: first attempt: not ok 2 b"
ok "and where it counts" says "(second attempt)"
verdict "one that fails" "1 passed, 1 failed, 0 skipped" "${bad[@]}" "$again" "${bad[@]}"
verdict "one with a splat" "2 passed, 1 failed, 0 skipped" "${bad[@]}" "$again" "${good[@]}" '# test t splat: BUG: x'
verdict "one that does not come to its end" "0 passed, 1 failed, 0 skipped" "${bad[@]}" "$again" begin 1..1
verdict "one that was never begun" "1 passed, 1 failed, 0 skipped" "${bad[@]}" "$again"
verdict "nothing makes a splat good" "3 passed, 2 failed, 0 skipped" "${bad[@]}" '# test t splat: BUG: x' "$again" "${good[@]}"
verdict "nor a crash" "2 passed, 1 failed, 0 skipped" begin 1..2 '# test t fail: it did not come to its end' \
	"$again" "${good[@]}"
verdict "nor just another run" "3 passed, 1 failed, 0 skipped" "${bad[@]}" "${good[@]}"
verdict "three at most" "9 passed, 2 failed, 0 skipped" \
	"${bad[@]}" "${bad[@]/begin/begin u}" "${bad[@]/begin/begin v}" "${bad[@]/begin/begin w}" \
	"$again" "${good[@]}" "${again/t again/u again}" "${good[@]/begin/begin u}" \
	"${again/t again/v again}" "${good[@]/begin/begin v}" "${again/t again/w again}" "${good[@]/begin/begin w}"

# may_repeat WANT LINE...: which tests --again names, of a guest's log
may_repeat() {
	local want=$1 got
	shift
	log "$@" > "$work/6.1-1.log"
	got=$(sum --again "$work/6.1-1.log" | cut -f 1,2 | tr '\t\n' '/ ')
	[ "$got" = "$want" ] || { echo "$got"; false; }
}
ok "those that failed by their points" may_repeat "6.1/t 6.1/u " "${bad[@]}" "${bad[@]/begin/begin u}" "${good[@]/begin/begin v}"
ok "not those with a splat" may_repeat "6.1/u " "${bad[@]}" "${bad[@]/begin/begin u}" '# test t splat: BUG: x'
ok "nor without an end" may_repeat "" begin 1..1 'ok 1 a'
ok "nor the search for leaks" may_repeat "" "${bad[@]/begin/begin vm-closing}"
ok "nor what failed twice" may_repeat "" "${bad[@]}" "$again" "${bad[@]}"
ok "none of more than three" may_repeat "" "${bad[@]}" "${bad[@]/begin/begin u}" "${bad[@]/begin/begin v}" \
	"${bad[@]/begin/begin w}"

# The matrix. Each log is one place's; what is no PROGRAM.VARIANT.TEST is not in it, nor is it with one log alone.
log 'begin forward' 1..4 '#  RUN           forward.kmod_v4.a ...' 'ok 1 forward.kmod_v4.a' 'ok 2 forward.kmod_tls2tcp.a' \
	'#  RUN           forward.kmod_tls2tcp.b ...' 'not ok 3 forward.kmod_tls2tcp.b' \
	'#  RUN           forward.kmod_tls2tcp.c ...' 'ok 4 # SKIP why' 'end 1' 'begin x' 1..1 'ok 1 a.kmod_thing' 'end 0' > "$work/6.1-1.log"
log 'begin forward' 1..1 'ok 1 forward.user_v4.a' 'end 0' 'begin cancel' 1..2 'ok 1 cancel.kmod_v4.a' \
	'#  RUN           cancel.kmod_v4.b ...' 'end 139' > "$work/debug-1.log"
log 'begin forward' 1..1 'ok 1 forward.user_v4.a' 'end 0' > "$work/user-1.log"
matrix() { sum "$work"/6.1-1.log "$work"/debug-1.log "$work"/user-1.log; }
row() { matrix | sed -n '/^matrix:/,$p' | grep "^$1 " | tr -s ' '; }
ok "matrix: a row for each kind of ends" [ "$(row kmod_v4)" = "kmod_v4 1 1F1" ]
ok "matrix: failed and skipped beside what passed" [ "$(row kmod_tls2tcp)" = "kmod_tls2tcp 1F1S1 ." ]
ok "matrix: the sum of all places" [ "$(row user_v4)" = "user_v4 2 ." ]
ok "matrix: it is before the last line" [ "$(matrix | tail -n 1)" = "6 passed, 2 failed, 1 skipped" ]
fails "matrix: not of one log" grep -q "^matrix:" <(sum "$work/6.1-1.log")
cases() { sum --cases=forward.kmod_tls2tcp "$work"/6.1-1.log "$work"/user-1.log | tr -s ' ' | tr '\n' ','; }
ok "matrix: the cases of one cell" [ "$(cases)" = \
	"passed 6.1 forward.kmod_tls2tcp.a,failed 6.1 forward.kmod_tls2tcp.b,skipped 6.1 forward.kmod_tls2tcp.c," ]
log begin 1..2 'ok 1 t.user_v4.a' 'not ok 2 t.user_v4.b' 'end 1' '# test t again: not ok 2 b' \
	begin 1..2 'ok 1 t.user_v4.a' 'ok 2 t.user_v4.b' 'end 0' > "$work/user-1.log"
ok "matrix: the second attempt counts" [ "$(row user_v4)" = "user_v4 1 . 2" ]

# A comparison that awk takes for a redirection writes files.
ok "it leaves no file behind" [ -z "$(ls -A "$work/here")" ]

# One test with arguments, in a tree whose only program says what it was given.
tree=$work/tree
mkdir -p "$tree/selftests" "$tree/build/selftests" "$tree/build/vm"
cp -r "$top/selftests/check" "$top/selftests/vm" "$tree/selftests/"
cp "$collect" "$tree/build/vm/"
printf '#!/bin/sh\necho "ok 1 $SPL_TEST_ENGINE $*"\necho 1..1\n' > "$tree/build/selftests/forward"
chmod -R a+rX,u+x "$tree/build" "$tree/selftests"
one() { "$tree/selftests/check" --test "$@" 2>&1; }
given() { one "$1" user > "$work/out"; grep -qxF "ok 1 $2" "$tree"/build/check/user-?.log || { cat "$work/out"; false; }; }
ok "one test on this machine" given forward "user "
ok "and with arguments, which are no patterns of files" given "forward -t z*" "user -t z*"
ok "its verdict" [ "$(one "forward -t z*" user | tail -n 1)" = "1 passed, 0 failed, 0 skipped" ]
fails "one that is not of that place" one netlink_fuzz user

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
