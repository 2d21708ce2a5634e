/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/*
 * Not for programs: how splicectl finds the splices of the engine sockmap. Each process keeps a map of such records, pinned in
 * SPL_LISTED_DIR under the name NAMESPACE-PID-STARTED, of its PID namespace's inode and the time it began. May change at any time.
 *
 * The process may write there what it likes. So whose record it is says the pin, and what else is read is checked.
 */
#ifndef SPL_LISTED_H
#define SPL_LISTED_H

#include "libsplice.h"
#include <netinet/in.h>

#define SPL_LISTED_DIR	"/sys/fs/bpf/libsplice"
#define SPL_LISTED_MOST	2048		/* records of a process; the first is about itself */

enum spl_listed_mode { SPL_LISTED_LOCAL, SPL_LISTED_SK_SKB };
enum spl_listed_state { SPL_LISTED_IDLE, SPL_LISTED_RUNNING, SPL_LISTED_BLOCKED, SPL_LISTED_CLOSING, SPL_LISTED_DONE };

struct spl_listed {
	uint64_t token;			/* 0: no operation; written last, and wiped out first */
	uint64_t bytes[2], began, moved;	/* ms, CLOCK_MONOTONIC */
	uint32_t way[2];		/* 0, or one above the number in sockmap.bpf.c's ways, which counts on; of the first record: that map's id */
	uint32_t uid, pid;		/* read: the pin's */
	uint64_t ns;			/* read: its PID namespace */
	uint8_t pair, mode, state[2];
	uint32_t unlisted;		/* of the first record: splices so far that had no place */
	struct sockaddr_in6 local[2], remote[2];	/* family 0: not TCP */
};

/*
 * All there are now, *out to be freed; one without a token says how many of its process have no place. The number; -ENOENT: no
 * process lists any; -EPERM: not for us to see.
 */
SPL_API int spl_sockmap_listed(struct spl_listed **out);

#endif /* SPL_LISTED_H */
