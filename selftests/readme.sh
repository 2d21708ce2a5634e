#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The README's program compiles as the README says, against what "make install" installs, as C and as C++, and joins two
# connections; the README's commands are there.
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/.." && pwd)
. "$here/tap.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PKG_CONFIG_PATH=$work/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$work
sed -n '/^```c$/,/^```$/p' "$top/README.md" | sed '/^```/d' > "$work/proxy.c"
cat "$here/readme_main.c" >> "$work/proxy.c"

ok "make install" make -s -C "$top" install DESTDIR="$work" PREFIX=/usr B="$work/build"
compile() { "$@" $(pkg-config --cflags libsplice) -o "$work/proxy" "$work/proxy.c" $(pkg-config --libs libsplice); }
ok "as C" compile cc -Wall -Wextra -Werror
ok "as C++" compile c++ -std=c++20 -x c++ -Wall -Werror
export LD_LIBRARY_PATH=$work/usr/lib SPL_ENGINE=user
ok "it joins two connections" "$work/proxy"
ok "it says no politely" "$work/proxy" refuse

# every "make TARGET" and "splicectl COMMAND" in the text
targets() { grep -oE 'make( [a-z-]+)+' "$top/README.md" | grep -oE ' [a-z-]+' | grep -vx ' install' | sort -u; }
commands() { grep -oE 'splicectl [a-z]+' "$top/README.md" | cut -d ' ' -f 2 | sort -u; }
target() { make -n -C "$top" "$1" > "$work/make.txt" 2>&1 || { tail -n 3 "$work/make.txt"; return 1; }; }
[ "$(targets | wc -l)" -ge 4 ]
now $? "the README names targets"
for t in $(targets); do
	ok "make $t is a target" target "$t"
done
[ "$(commands | wc -l)" -ge 2 ]
now $? "the README names commands of splicectl"
for c in $(commands); do
	ok "splicectl $c is a command" "$work/usr/sbin/splicectl" "$c" --help
done
finish
