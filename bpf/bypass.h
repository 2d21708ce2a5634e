/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What bypass.bpf.h and the library share: one way past a relay, from a socket of a learned peer to another one. */
#ifndef BYPASS_H
#define BYPASS_H

#include <linux/bpf.h>

#include "local.h"

enum bypass_phase {
	BYPASS_OFF,		/* for good */
	BYPASS_HELD,		/* the relay may have bytes that are not to be overtaken */
	BYPASS_OPEN,		/* as bypass() decides */
	/* and as an order only, of a way that is OFF: */
	BYPASS_ASK,		/* may a message still be between the decision and the target? */
};

/* By the cookie of the sender. Written by bypass() under the lock of the sender, what the lock is for under both. */
struct bypass_way {
	struct bpf_spin_lock lock;	/* of phase, crossed, to.bytes and to.msgs */
	__u32 phase;
	__u64 sender;		/* cookie: elements of a map are used again */
	__u64 source_sk, source_cookie;	/* the relay's end that the sender is connected with */
	__u64 sink_sk, sink_cookie;	/* the relay's end that the target is connected with */
	__u64 moved_ns;		/* when a byte last was redirected: CLOCK_MONOTONIC, coarse */
	struct local_hop to;	/* the target, and all that was redirected to it: by the sink's hop as well, and before */
	__u64 crossed;		/* bytes of this way */
	__u32 sent;		/* the sender's write_seq when it last redirected */
	__u32 given;		/* the sink's write_seq when nobody waited within TCP */
	__u32 goes;		/* sent is valid */
	__u32 clear;		/* given is valid */
};

/* What engage() and steer() are told, as a packet. */
struct bypass_order {
	__u8 ethernet[16];
	struct local_key sender, target;
	__u64 cookie;		/* of the sender */
	__u64 source, sink;	/* as "sinks" calls them */
	__u32 phase;
	__u32 unused;
};

/* What steer() returns to BYPASS_ASK: perhaps. */
#define BYPASS_WITHIN	2

#endif /* BYPASS_H */
