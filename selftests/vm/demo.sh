#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The demonstration, in the guest: nginx serves a file, splicectl relays, curl downloads; then the relay is
# killed in the middle of a second download.
cd /tmp || exit 1
mb=64 file=$((64 << 20)) failed=0
mkdir -p www logs
head -c "$file" /dev/urandom > www/file
want=$(sha256sum < www/file)
cat > nginx.conf <<END
user root; worker_processes 1; pid /tmp/nginx.pid; error_log /tmp/logs/error.log;
events { worker_connections 64; }
http {
	access_log off; sendfile on;
	server { listen 127.0.0.1:80; root /tmp/www; location /slow/ { alias /tmp/www/; limit_rate 16m; } }
}
END
nginx -c /tmp/nginx.conf -e /tmp/logs/error.log || { echo "nginx does not start"; exit 1; }
splicectl relay --listen 127.0.0.1:8080 --to 127.0.0.1:80 --engine kmod --quiet > relay.out 2>&1 &
relay=$!
for _ in $(seq 100); do grep -q listening relay.out && break; sleep 0.1; done

counter() { splicectl --json stats | jq -r ".$1"; }
check() {
	if [ "$(sha256sum < got)" = "$want" ]; then
		echo "   sha256 equal: every byte arrived"
	else
		echo "   sha256 differs: $(stat -c %s got 2>/dev/null) bytes arrived"
		failed=1
	fi
}

echo "1. curl -> splicectl relay -> nginx, $mb MiB; after the connection is made the relay sees no byte of it"
curl -sS -o got -w '%{size_download} %{time_total} %{speed_download}\n' http://127.0.0.1:8080/file > figures || failed=1
awk '{ printf "   %d bytes in %.2f s: %.1f MB/s\n", $1, $2, $3 / 1e6 }' figures
check
echo "   by the module: $(counter bytes) bytes, $(counter zerocopy) of them without a copy;" \
	"$(counter inline) runs in the receive softirq, $(counter worker) in the worker"
echo "2. the same at 16 MB/s, and the relay is killed with -9 on the way"
rm got
curl -sS -N -o got http://127.0.0.1:8080/slow/file &
curl=$!
sleep 2
splicectl list | sed 's/^/   /'
kill -9 $relay
wait $relay 2> /dev/null
echo "   the relay is dead, $(stat -c %s got) bytes have arrived"
wait $curl || failed=1
echo "   curl is done: $(stat -c %s got) bytes"
check
kill "$(cat nginx.pid)"
exit $failed
