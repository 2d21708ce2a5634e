#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# symbols.sh: the shared library exports what the header declares, all versioned, and nothing else.
# Runs on the host; the library is in $BUILD.
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/selftests/tap.sh"
lib=${BUILD:-$top/build}/libsplice.so.1
archive=${BUILD:-$top/build}/libsplice.a

declared() { sed -n 's/^SPL_API[^(]*[ *]\(spl_[a-z_]*\)(.*/\1/p' "$top/libsplice/libsplice.h" | sort; }
# what splicectl alone may use has a version of its own
exported() { nm -D --defined-only "$lib" | awk '$2 == "T" && $3 !~ /_PRIVATE$/ { sub(/@.*/, "", $3); print $3 }' | sort; }
other() { nm -D --defined-only "$lib" | awk '$2 !~ /[TA]/ { print $3 }'; }
unversioned() { nm -D --defined-only "$lib" | awk '$2 == "T" && $3 !~ /@@LIBSPLICE_/ { print $3 }'; }
foreign() { nm -g --defined-only "$archive" | awk 'NF == 3 && $3 !~ /^spl_/ { print $3 }'; }
needed() { readelf -d "$lib" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | grep -v '^ld-' | sort | tr '\n' ' '; }

ok "the header declares functions" test "$(declared | wc -l)" -ge 20
ok "exported is what is declared" test "$(exported)" = "$(declared)"
ok "no variable is exported" test -z "$(other)"
ok "each symbol has a version" test -z "$(unversioned)"
ok "the archive defines nothing outside spl_" test -z "$(foreign)"
ok "the soname has a version" sh -c "readelf -d '$lib' | grep -q 'SONAME.*libsplice.so.1'"
ok "it needs libmnl, libbpf and libc only" test "$(needed)" = "libbpf.so.1 libc.so.6 libmnl.so.0 "
finish
