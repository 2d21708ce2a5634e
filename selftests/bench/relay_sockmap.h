/* SPDX-License-Identifier: GPL-2.0 */
/* relay_sockmap.h: what the program in the kernel and the relay share. Way 2n goes from client n, 2n + 1 back to it. */
#ifndef RELAY_SOCKMAP_H
#define RELAY_SOCKMAP_H

#define SLOTS 16384

/* A cache line; written under the lock of the source. */
struct sockmap_way {
	__u64 redirected;	/* bytes that the kernel moves: the sink has taken them, or they wait for it */
	__u64 written;		/* the sink has taken so many of them, when it was last looked at */
	__u32 base;		/* the sink's write_seq before the first of them */
	__u32 stopped;		/* too much waits: from here on the relay moves the bytes */
	__u64 unused[5];
};

#endif /* RELAY_SOCKMAP_H */
