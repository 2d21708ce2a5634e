/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* sockmap.h: what the programs of sockmap.bpf.c and libsplice/sockmap_skb.c share. */
#ifndef SOCKMAP_H
#define SOCKMAP_H

#define SOCKMAP_FLOWS		8192

/*
 * What may wait for one sink outside of its send buffer, where nothing else bounds it and tcp_mem does not count it. Bytes
 * alone would be no limit: a segment of one byte takes 2 KB or so. Both together keep it below 4 MB.
 */
#define SOCKMAP_BACKLOG_BYTES	(1u << 20)
#define SOCKMAP_BACKLOG_SKBS	1024

enum sockmap_half { SOCKMAP_SOURCE, SOCKMAP_SINK };

/* Names half a socket. */
struct sockmap_end {
	__u64 cookie;
	__u64 half;
};

/* Why a parser takes no more. It cannot be started again while the socket stays in a map. */
enum sockmap_stop {
	SOCKMAP_GOES_ON,
	SOCKMAP_FULL,		/* too much waits for the sink */
	SOCKMAP_LAST,		/* the skb that completes the limit is left to user space */
	SOCKMAP_ASKED,
	SOCKMAP_NO_SINK,
	SOCKMAP_URGENT,		/* the kernel would keep what is before the urgent byte until there is more */
};

/* One flow, a cache line. What the programs write they write under the lock of the source. */
struct sockmap_way {
	__u64 taken;		/* bytes that the sink was given: it has taken them, or they wait for it */
	__u64 lost;		/* bytes that the kernel did not take for the sink: it is gone */
	__u64 limit;		/* of user space: so many bytes at most */
	__u32 base;		/* the sink's write_seq before the first of them */
	__u32 stopped;		/* enum sockmap_stop */
	__u32 stop;		/* of user space: take no more */
	__u32 unused[7];
};

#endif /* SOCKMAP_H */
