/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* sockmap_flow.h: private to sockmap_skb.c: a flow, and its places in the maps. */
#ifndef SPL_SOCKMAP_FLOW_H
#define SPL_SOCKMAP_FLOW_H

#include "../bpf/sockmap.h"
#include "sockmap_skb.h"

struct sockmap_flow {
	__u32 number;
	int source, sink;
	struct sockmap_end from, to;
	struct sockmap_way *way;
	uint64_t limit;
	uint64_t source_at;	/* bytes that had been read from the source when the flow began */
	uint64_t sink_at;	/* and written to the sink */
	uint64_t pumped;	/* moved by pump() */
	bool in_kernel;		/* the source is in its map */
	bool sink_parsed;	/* the sink has been a source since it is one: its parser cannot be started again */
	bool lost;
	bool soon;		/* no event tells when there is something to do */
	enum sockmap_phase phase;
	int error, source_error;
	short source_events, sink_events;
};

/* Under the lock of the maps. */
int sockmap_flow_join(struct sockmap_flow *f);

/* The source's bytes are read as ever from here on. */
void sockmap_flow_leave(struct sockmap_flow *f);

/* Out of all maps; frees it. */
void sockmap_flow_part(struct sockmap_flow *f);

/* In a child: frees it. */
void sockmap_flow_forget(struct sockmap_flow *f);

#endif /* SPL_SOCKMAP_FLOW_H */
