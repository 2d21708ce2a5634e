#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# locking.sh: Documentation/locking.md names every lock of the module and every function of it that somebody else calls,
# and no function that is not there. Runs on the host.
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/.." && pwd)
. "$here/tap.sh"
doc=$top/Documentation/locking.md
cd "$top/kmod" || exit 1

quoted() { grep -oE '`[^`]+`' "$doc" | grep -oE "$1" | sort -u; }

# defined NAME: a function, a variable or a structure of the module, or one that comes with a tracepoint
defined() {
	grep -qE "^([a-z].*[ *])?$1[(;,) =\[]|(DEFINE|DECLARE)[A-Z_0-9]*\((.*[ ,])?$1\)|^(static )?struct $1 |^\} $1 " ./*.[ch] ||
		grep -qF "TRACE_EVENT(${1#trace_}," trace.h
}
[ "$(quoted 'sksplice_[a-z0-9_]+' | wc -l)" -ge 50 ]
now $? "the page names functions of the module"
for name in $(quoted 'sksplice_[a-z0-9_]+'); do
	ok "$name is there" defined "$name"
done
# the kernel's, as far as the module calls or mentions them
for name in $(quoted '^`[a-z_]+\(\)' | tr -d '`()' | grep -v '^sksplice_'); do
	ok "$name() occurs in the module" grep -qwF "$name" ./*.[ch]
done

# ---- the other way round

# named WHAT NAMES: a point for each
named() {
	[ -n "$2" ]
	now $? "the module has ${1}s"
	for name in $2; do
		ok "$1 $name is on the page" grep -qF "\`$name\`" "$doc"
	done
}

locks() {
	sed -nE 's/.*DEFINE_(SPINLOCK|RAW_SPINLOCK|RWLOCK|MUTEX|SEMAPHORE|XARRAY[A-Z0-9]*|PER_CPU)\((.*, *)?([a-z0-9_]+)\).*/\3/p' ./*.[ch] |
		grep -vx sksplice_stats
	awk '
	/^(static )?struct( [a-z_]+)? \{$/ { owner = $2; if (owner == "struct") owner = $3 }
	match($0, /^\t(spinlock_t|rwlock_t|struct mutex|struct rw_semaphore|seqlock_t) [a-z0-9_]+;/) {
		split(substr($0, RSTART + 1, RLENGTH - 2), w, " "); held[++n] = w[w[1] == "struct" ? 3 : 2] }
	/^\}/ { if ($2 ~ /^sksplice_/) owner = $2; for (i = 1; i <= n; i++) print owner "." held[i]; n = 0 }' ./*.[ch]
}
named lock "$(locks | sort -u)"

# functions whose address goes to somebody
given() {
	grep -ohE '(\.[a-z_]+|->[a-z_]+)[[:space:]]*=[[:space:]]*sksplice_[a-z0-9_]+[ ,;}]' ./*.[ch] | grep -oE 'sksplice_[a-z0-9_]+'
	grep -ohE '(INIT_WORK|INIT_DELAYED_WORK|timer_setup|call_rcu|init_waitqueue_func_entry)\([^;]*\)' ./*.[ch] | grep -oE 'sksplice_[a-z0-9_]+'
	grep -ohE '(kthread_run|module_init|module_exit)\(sksplice_[a-z0-9_]+' ./*.[ch] | grep -oE 'sksplice_[a-z0-9_]+'
	grep -ohE 'WRITE_ONCE\(sk->[a-z_]+, sksplice_[a-z0-9_]+' ./*.[ch] | grep -oE 'sksplice_[a-z0-9_]+'
}
functions() { for name in $(given | sort -u); do ! grep -qE "^[a-z].*[ *]$name\(" ./*.[ch] || echo "$name"; done; }
named callback "$(functions)"
finish
