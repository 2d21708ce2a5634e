/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/*
 * sockmap_skb.h: flows from one TCP socket to another that bpf/sockmap.bpf.c moves in the kernel.
 *
 * The kernel takes care of the stream alone. What it cannot do is left to sockmap_skb_run(), which whoever has a flow calls
 * when one of the descriptors in the status is ready, or the time is over: to see the end of the stream or a failure, and to move
 * the bytes itself once the parser has stopped for good, because the sink is too slow, of urgent data, or because the last
 * bytes of an exact number are left. Without those calls nothing grows; but nothing moves any more once a parser has stopped.
 */
#ifndef SPL_SOCKMAP_SKB_H
#define SPL_SOCKMAP_SKB_H

#include <stdbool.h>
#include <stdint.h>

#define SOCKMAP_ALL	UINT64_MAX
#define SOCKMAP_TICK_MS	4	/* no event tells that a sink has taken all that waited for it: it is looked at so often */

struct sockmap_flow;

enum sockmap_phase {
	SOCKMAP_MOVING,		/* the kernel moves what comes */
	SOCKMAP_PLAIN,		/* sockmap_skb_run() does */
	SOCKMAP_ENDING,		/* the end of the source has come, not all before it has gone */
	SOCKMAP_EOF,		/* it has: time for shutdown(sink) */
	SOCKMAP_DONE,		/* so many bytes have gone */
	SOCKMAP_SOURCE_FAILED,
	SOCKMAP_SINK_FAILED,
};

struct sockmap_status {
	enum sockmap_phase phase;
	int error;			/* positive, of the end that failed; of the source also before anybody has read to its failure */
	uint64_t bytes;			/* the sink has accepted so many */
	uint64_t backlog;		/* so many more were taken from the source */
	short source_events, sink_events;	/* POLL*: call again then */
	bool tick;			/* or after SOCKMAP_TICK_MS */
};

/*
 * The programs and maps: loaded by the first, gone with the last of a process, who has ended his flows before. Any thread. A child
 * loads its own; inherited: who got them was its parent.
 * -EPERM, -EOPNOTSUPP, -ENOMEM.
 */
int sockmap_skb_get(void);
void sockmap_skb_put(bool inherited);

/*
 * n: SOCKMAP_ALL, or exactly so many. Nobody else reads the source or writes the sink until the end. -EOPNOTSUPP where this
 * cannot be done, and another engine can: not two TCP sockets, or kTLS; an end of stream that has come or been sent; exactly n
 * while the other direction is a flow, too; a source whose socket has been one before and still is a sink. -EBUSY: an end
 * that has a flow, or a foreign user of the socket. -ENFILE: too many flows. In a child of who has loaded the programs: -EOPNOTSUPP.
 * Anything else is the source's failure, taken from the socket.
 */
int sockmap_skb_begin(int source, int sink, uint64_t n, struct sockmap_flow **out);

/* Never waits. */
void sockmap_skb_run(struct sockmap_flow *f, struct sockmap_status *st);

/*
 * Gives the ends back and frees the flow. -EAGAIN: not while bytes wait for the sink, which would be lost; nothing is taken
 * from the source any more, and it is to be tried again as the status says. -EIO: it has ended, and the kernel lost bytes.
 */
int sockmap_skb_end(struct sockmap_flow *f, struct sockmap_status *st);

/* The same at once: what waits for the sink is lost. Returns how many bytes the sink has accepted. */
uint64_t sockmap_skb_drop(struct sockmap_flow *f);

/* Bytes that the sink has accepted, and how many more were taken from the source. Changes nothing. */
uint64_t sockmap_skb_bytes(const struct sockmap_flow *f, uint64_t *backlog);

/* Of the map "ways", and in it of this flow. */
int sockmap_skb_ways(void);
uint32_t sockmap_skb_number(const struct sockmap_flow *f);

/* In a child of the process that began it: gives the memory back and leaves the flow alone, which is the parent's. */
void sockmap_skb_forget(struct sockmap_flow *f);

#endif /* SPL_SOCKMAP_SKB_H */
