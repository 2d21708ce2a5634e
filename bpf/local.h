/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What local.bpf.c and the library share: how a socket is named, and what is known of one that sends to a peer of this host. */
#ifndef LOCAL_H
#define LOCAL_H

#include <linux/types.h>

/* A TCP socket, as it sees itself: IPv4 as IPv6 writes it, so that a mapped socket and the one it talks to agree. */
struct local_key {
	__u64 netns;		/* cookie */
	__u32 local[4], remote[4];
	__u32 local_port, remote_port;	/* of this host's byte order */
};

enum local_phase {
	LOCAL_WAITS,		/* by TCP, until a redirect cannot overtake what TCP still carries */
	LOCAL_HOPS,		/* into the peer's queue */
	LOCAL_OFF,		/* by TCP, for good */
	/* and as an order only, of a sink that has a peer: */
	LOCAL_ASK,		/* as it is: how much room is there? */
	LOCAL_YIELD,		/* the peer does not read: back to LOCAL_WAITS, where TCP has room for what comes then */
	LOCAL_GIVE_UP,		/* or where it has none */
};

enum local_role { LOCAL_END = 1, LOCAL_PEER };

/* Of a socket in the map "sinks", in its own storage. Written by hop() under the lock of the socket. */
struct local_hop {
	struct local_key peer;
	__u64 peer_sk, peer_cookie;	/* where the kernel has it, and how to tell that it is still the same */
	__u64 early;		/* where it had who slept there before it was learned, perhaps to receive; 0: nobody */
	__u64 bytes, msgs;	/* redirected so far */
	__u64 mark_bytes, mark_msgs;	/* when the peer has read so many bytes, it has so many messages */
	__u64 read_msgs;	/* and so many it surely has */
	__u64 way;		/* a bypass, by its sender's cookie, that counts for the peer meanwhile; 0: none */
	__u32 phase;
	__u32 role;		/* in a bypass; 0: in none so far */
};

/* What arm() is told, as a packet. */
struct local_order {
	__u8 ethernet[16];	/* no packet is without */
	struct local_key peer;
	__u64 sink;		/* as "sinks" calls it */
	__u32 phase;		/* to begin with: LOCAL_WAITS or LOCAL_OFF; or what else is wanted */
	__u32 unused;
};

/* What arm() returns: that it could not, or more by one than the bytes that may be sent before it has to be asked again. */
#define LOCAL_FAILED	0

/* The ports of which one at least has to be that of a socket, or of its peer, for it to be learned. */
struct local_ports {
	__u64 some;		/* 0: no matter */
	__u64 bits[1 << 10];
};

enum local_count {
	LOCAL_MSGS, LOCAL_BYTES,	/* redirected */
	LOCAL_PASSED_MSGS, LOCAL_PASSED_BYTES,	/* by TCP, of sockets that are in "sinks" */
	LOCAL_QUOTA,		/* times that a stream went back to TCP because its peer did not read */
	LOCAL_LEARNED,		/* sockets */
	LOCAL_REFUSED,		/* messages whose peer was gone when they should have been redirected */
	LOCAL_BYPASS_MSGS, LOCAL_BYPASS_BYTES,	/* from peer to peer */
	LOCAL_BYPASS_QUOTA,	/* messages that went to the relay because the peer did not read */
	LOCAL_COUNTS
};

#define LOCAL_SOCKETS	65536		/* in each map */
#define LOCAL_QUOTA_BYTES	(2u << 20)	/* that wait for a peer to read them */
#define LOCAL_QUOTA_MSGS	192		/* each may keep 32 KB, however short it is: other sends fill the rest of its pages */
#define LOCAL_MSG_COST		(LOCAL_QUOTA_BYTES / LOCAL_QUOTA_MSGS)	/* bytes of room that a message takes at least */
#define LOCAL_LEAST		(64u << 10)	/* a peer that has chosen a receive buffer with less room gets everything by TCP */

#endif /* LOCAL_H */
