#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The README's program compiles as the README says, against what "make install" installs, as C and as C++.
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/.." && pwd)
. "$here/tap.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PKG_CONFIG_PATH=$work/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$work
sed -n '/^```c$/,/^```$/p' "$top/README.md" | sed '/^```/d' > "$work/proxy.c"
echo 'int main(void) { return join(-1, -1) == 0; }' >> "$work/proxy.c"

ok "make install" make -s -C "$top" install DESTDIR="$work" PREFIX=/usr B="$work/build"
compile() { "$@" $(pkg-config --cflags libsplice) -o "$work/proxy" "$work/proxy.c" $(pkg-config --libs libsplice); }
ok "as C" compile cc -Wall -Wextra -Werror
ok "as C++" compile c++ -std=c++20 -x c++ -Wall -Werror
ok "it runs, and says no politely" env LD_LIBRARY_PATH="$work/usr/lib" "$work/proxy"
finish
