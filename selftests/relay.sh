#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# relay.sh: unmodified programs through "splicectl relay", and through none: equal results.
# Runs in the guest with the engine kmod, which also outlives the relay, and on the host, as any user, with user; ENGINE= says
# otherwise. Wants curl nginx redis-server redis-benchmark ab wrk; what is missing is skipped.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/tap.sh"
PATH=$here:$here/../build:$here/../build/selftests:/usr/sbin:$PATH
engine=user
[ "$here" != /t ] || engine=kmod
engine=${ENGINE:-$engine}
mb=96 requests=2000 redis=5000 count=500 seconds=3
[ -z "${SPL_TEST_BRIEF:-}" ] || mb=16 requests=300 redis=300 count=50 seconds=2

exec 3>&1
work=$(mktemp -d)
cd "$work" || exit 1
pids=
cleanup() {
	for p in $pids; do kill -9 "$p" 2> /dev/null; done
	rm -rf "$work"
}
trap cleanup EXIT

sum() { sha256sum "$1" | cut -d ' ' -f 1; }
alive() { kill -0 "$1" 2> /dev/null; }

# relay FROM TO: in the background; its pid is in $relay
relay() {
	splicectl relay --listen "127.0.0.1:$1" --to "127.0.0.1:$2" --engine "$engine" --quiet > "relay.$1" 2>&1 &
	relay=$!
	pids="$pids $relay"
	until_true 20 listens "$1" || { tap_say < "relay.$1"; return 1; }
}

is_kmod() { [ "$engine" = kmod ]; }

# How many operations have been begun since the module came: the bytes must not have gone another way.
started() { is_kmod && splicectl --json stats | tr ',{}' '\n\n\n' | sed -n 's/.*"started" *: *\([0-9]*\).*/\1/p' | head -n 1; }

# through_kernel BEFORE NAME: a point, for the module
through_kernel() {
	is_kmod || return 0
	after=$(started)
	echo "# operations begun: ${1:-?} -> ${after:-?}"
	[ "${after:-0}" -gt "${1:-0}" ]
	now $? "$2"
}

start_nginx() {
	user=''
	[ "$(id -u)" != 0 ] || user='user root;'
	mkdir -p www/up tmp logs
	head -c $((mb << 20)) /dev/urandom > www/big
	head -c 1000 /dev/urandom > www/small
	cat > nginx.conf <<-END
		$user
		worker_processes 1;
		pid $work/nginx.pid;
		error_log $work/logs/error.log;
		events { worker_connections 4000; }
		http {
			access_log off;
			sendfile on;
			keepalive_requests 100000000;
			client_max_body_size 0;
			client_body_temp_path $work/tmp/body;
			proxy_temp_path $work/tmp/proxy;
			fastcgi_temp_path $work/tmp/fastcgi;
			uwsgi_temp_path $work/tmp/uwsgi;
			scgi_temp_path $work/tmp/scgi;
			server {
				listen 127.0.0.1:18080 backlog=2048;
				root $work/www;
				location /up/ { dav_methods PUT; }
			}
		}
	END
	nginx -c "$work/nginx.conf" -e "$work/logs/error.log" -g 'daemon off;' > nginx.out 2>&1 &
	nginx=$!
	pids="$pids $nginx"
	until_true 20 listens 18080 || { tap_say < nginx.out; tap_say < logs/error.log; return 1; }
}

download() { curl -sS --noproxy '*' --max-time 300 -o got "http://127.0.0.1:$1/big" && [ "$(sum got)" = "$big" ]; }
upload() {
	rm -f www/up/it
	curl -sS --noproxy '*' --max-time 300 -T www/big "http://127.0.0.1:$1/up/it" && [ "$(sum www/up/it)" = "$big" ]
}

web() {
	have nginx curl || { skip "curl and nginx" "not here"; return; }
	start_nginx
	now $? "nginx listens"
	big=$(sum www/big)
	relay 18081 18080
	now $? "the relay before it listens"
	before=$(started)
	ok "download of $mb MB, equal sha256" download 18081
	through_kernel "$before" "the download went through the kernel"
	ok "upload of $mb MB, equal sha256" upload 18081
	rm -f got www/up/it
	if have ab; then
		ok "ab without keep-alive: no failed request" ab_clean -n "$requests" -c 20
		ok "ab with keep-alive: no failed request" ab_clean -k -n "$requests" -c 20
	else
		skip "ab" "not here"
	fi
	if have wrk; then
		ok "wrk: no error" wrk_clean
	else
		skip "wrk" "not here"
	fi
	ok "the relay is still there" alive "$relay"
	if is_kmod; then
		killed_web
	else
		kill "$relay"
		wait "$relay"
		now $? "the relay drains, and ends well"
	fi
	kill "$nginx"
	wait "$nginx" 2> /dev/null
	rm -rf www tmp
}

# What did not move on: the operations, and the sockets behind them.
stuck() {
	tail -n 3 ab.out
	! is_kmod || splicectl --json list
	! is_kmod || splicectl --json stats
	ss -tnio state connected exclude time-wait
} 2>&1 | tap_say

ab_clean() {
	ab -q "$@" http://127.0.0.1:18081/small > ab.out 2>&1 || { cat ab.out; stuck >&3; return 1; }
	grep -E '^(Complete|Failed|Non-2xx|Requests per)' ab.out
	grep -q '^Failed requests: *0$' ab.out && ! grep -q '^Non-2xx' ab.out
}

wrk_clean() {
	wrk -t 2 -c 50 -d "${seconds}s" http://127.0.0.1:18081/small > wrk.out 2>&1 || { cat wrk.out; return 1; }
	grep -E 'requests in|Requests/sec|Socket errors|Non-2xx' wrk.out
	! grep -qE 'Socket errors|Non-2xx' wrk.out
}

# kill -9 of the relay in the middle of a download and an upload
killed_web() {
	curl -sS --limit-rate $((mb / 8))M --max-time 300 -o got http://127.0.0.1:18081/big > down.out 2>&1 &
	down=$!
	curl -sS --limit-rate $((mb / 8))M --max-time 300 -T www/big http://127.0.0.1:18081/up/it > up.out 2>&1 &
	up=$!
	until_true 20 test -s got
	sleep 1
	alive $down && alive $up
	now $? "both transfers are running"
	kill -9 "$relay"
	until_true 5 not listens 18081
	now $? "the relay is dead"
	wait $down
	ok "the download completes" test $? = 0
	ok "with equal sha256" test "$(sum got)" = "$big"
	wait $up
	ok "the upload completes" test $? = 0
	ok "with equal sha256 too" test "$(sum www/up/it)" = "$big"
	cat down.out up.out | tap_say
	rm -f got
}

redis() {
	have redis-server redis-benchmark redis-cli || { skip "redis" "not here"; return; }
	redis-server --port 16380 --bind 127.0.0.1 --save '' --appendonly no --dir "$work" > redis.out 2>&1 &
	pids="$pids $!"
	until_true 20 listens 16380
	now $? "redis listens"
	relay 16381 16380
	before=$(started)
	ok "redis-benchmark" bench_clean -t ping_inline,ping_mbulk,set,get,incr,lpush,mset -n "$redis" -c 50
	ok "redis-benchmark, pipelined" bench_clean -t set,get -n "$redis" -c 20 -P 16
	ok "redis-benchmark, 10 kB values" bench_clean -t set,get -n $((redis / 10)) -c 10 -d 10000
	through_kernel "$before" "redis went through the kernel"
	head -c 300000 /dev/urandom | base64 -w 0 > value
	redis-cli -p 16381 -x set k < value > /dev/null
	ok "a large value comes back as it was" test "$(redis-cli -p 16381 get k)" = "$(cat value)"
	kill "$relay"
}

bench_clean() {
	timeout 200 redis-benchmark -p 16381 -q "$@" > bench.out 2>&1 || { cat bench.out; return 1; }
	tr '\r' '\n' < bench.out | grep 'requests per second'
	! grep -qiE 'error|reset|refused' bench.out
}

# Many verified connections at once, random chunks both ways; then the same with the relay killed.
many() {
	peer serve 17012 > serve.out 2>&1 &
	pids="$pids $!"
	until_true 20 listens 17012
	relay 17011 17012
	before=$(started)
	ok "$count connections at once, verified" peer load 17011 "$count" 80000
	through_kernel "$before" "they went through the kernel"
	is_kmod || return 0
	ok "nothing is left of them" until_true 20 has_operations 0
	peer load 17011 "$count" 120000 go > load.out 2>&1 &
	client=$!
	ok "all are spliced once more" until_true 60 has_operations "$count"
	touch go
	sleep 0.3
	kill -9 "$relay"
	fails "the relay is killed before they are over" grep -q complete load.out
	wait $client
	now $? "$count connections complete though their relay was killed"
	tap_say < load.out
	tail -n 5 serve.out | tap_say
	ok "nothing is left of these either" until_true 20 has_operations 0
}

# relay.sh [web] [redis] [many]: some of it
for part in ${*:-web redis many}; do
	$part
done
finish
