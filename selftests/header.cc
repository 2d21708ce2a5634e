// SPDX-License-Identifier: GPL-2.0
// The public header in a C++ program: it must compile, and its functions have C linkage.
// Where a function and a type share a name, C++ wants the type's tag, as with stat(2).
#include "libsplice.h"

enum spl_engine (*which)(const struct spl *) = spl_engine;
int (*opener)(struct spl **, const struct spl_open_opts *) = spl_open;

uint64_t fields(const spl_event &ev, const struct spl_stat &st)
{
	spl_opts opts = {};

	opts.sz = sizeof(opts);
	opts.flags = SPL_F_SHUTDOWN | SPL_F_KEEP;
	return ev.bytes + st.bytes + opts.sz + static_cast<uint64_t>(SPL_ALL) + SPL_END_SINK;
}
