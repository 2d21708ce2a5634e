/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * sksplice: the generic netlink interface of the in-kernel stream forwarder.
 * Described by Documentation/netlink/specs/sksplice.yaml; selftests compare the two.
 */
#ifndef _UAPI_SKSPLICE_H
#define _UAPI_SKSPLICE_H

#define SKSPLICE_GENL_NAME	"sksplice"
#define SKSPLICE_GENL_VERSION	1
#define SKSPLICE_MCGRP_MONITOR	"monitor"

/*
 * PREFIX, SUFFIX and DATA may come in several attributes, which are joined in their order: one of
 * them holds no 64 KiB.
 */
#define SKSPLICE_PIECE_MAX	16384	/* bytes in one attribute */
#define SKSPLICE_INSERT_MAX	65536	/* bytes of a prefix, a suffix, a send */
#define SKSPLICE_DELIM_MAX	16

/* What an operation is. */
enum sksplice_kind {
	SKSPLICE_KIND_UNSPEC,
	SKSPLICE_KIND_FORWARD,		/* one flow that borrows its ends */
	SKSPLICE_KIND_SPLICE,		/* one flow that owns its ends */
	SKSPLICE_KIND_PAIR,		/* two flows that own both sockets */
	SKSPLICE_KIND_SEND,		/* bytes of the request, to a sink that it borrows */
	__SKSPLICE_KIND_MAX,
};
#define SKSPLICE_KIND_MAX (__SKSPLICE_KIND_MAX - 1)

/* State of one flow (one direction). */
enum sksplice_state {
	SKSPLICE_STATE_IDLE,		/* waiting for bytes from the source */
	SKSPLICE_STATE_RUNNING,		/* bytes are being moved */
	SKSPLICE_STATE_BLOCKED,		/* waiting for room in the sink */
	SKSPLICE_STATE_CLOSING,		/* ended, ends not yet given back */
	SKSPLICE_STATE_DONE,		/* over */
};

/* Why an operation ended; same order as enum spl_cause in libsplice.h. */
enum sksplice_cause {
	SKSPLICE_CAUSE_DONE,		/* n bytes or records forwarded, or the limit reached */
	SKSPLICE_CAUSE_EOF,		/* end of stream on the source(s) */
	SKSPLICE_CAUSE_DELIM,		/* the delimiter was forwarded */
	SKSPLICE_CAUSE_CANCELED,	/* canceled or reclaimed by its owner */
	SKSPLICE_CAUSE_IDLE,		/* idle for longer than allowed */
	SKSPLICE_CAUSE_REVOKED,		/* ended by force */
	SKSPLICE_CAUSE_SOURCE_FAILED,
	SKSPLICE_CAUSE_SINK_FAILED,
};

/* Bits of SKSPLICE_A_FLAGS. Those below 16 are enum spl_flag of libsplice.h. */
enum sksplice_flag {
	SKSPLICE_F_SHUTDOWN	= 1 << 0,	/* forward: end of source shuts the sink down */
	SKSPLICE_F_DRAIN	= 1 << 1,	/* ends when the sink's peer has acknowledged all */
	SKSPLICE_F_CONNECTING	= 1 << 2,	/* the sink may still be connecting */
	SKSPLICE_F_KEEP		= 1 << 3,	/* the caller keeps its own descriptors */
	SKSPLICE_F_LAZY		= 1 << 16,	/* pair: its good end may come some ms late, with others' */
};

/* Bits of SKSPLICE_A_ENDED. For a pair: a is SOURCE, b is SINK. */
enum sksplice_end_bit {
	SKSPLICE_END_SOURCE	= 1 << 0,
	SKSPLICE_END_SINK	= 1 << 1,
};

enum sksplice_cmd {
	SKSPLICE_CMD_UNSPEC,
	SKSPLICE_CMD_OWNER_NEW,		/* do: makes the sending socket an owner; replies OWNER */
	SKSPLICE_CMD_OP_NEW,		/* do: starts an operation; replies TOKEN */
	SKSPLICE_CMD_OP_GET,		/* do: one by TOKEN; dump: all of the netns */
	SKSPLICE_CMD_OP_CANCEL,		/* do: ends it; its event follows */
	SKSPLICE_CMD_OP_REVOKE,		/* do: ends it by force; answers when its state is gone */
	SKSPLICE_CMD_OP_RECLAIM,	/* do: ends it; replies SOURCE_FD and SINK_FD, new descriptors */
	SKSPLICE_CMD_EVENT_GET,		/* dump: the undelivered events of OWNER; delivers them */
	SKSPLICE_CMD_STATS_GET,		/* do: replies a nest STATS */
	SKSPLICE_CMD_FLUSH,		/* do: revokes all of the netns; answers when gone; replies COUNT */
	SKSPLICE_CMD_START_NTF,		/* to monitors: an operation began */
	SKSPLICE_CMD_EVENT_NTF,		/* to its owner and to monitors: an operation ended */
	SKSPLICE_CMD_WRITEABLE,		/* do: answers what a send to SINK_FD would be refused with */
	SKSPLICE_CMD_OP_ADOPT,		/* do: a splice of the same user becomes OWNER's */
	__SKSPLICE_CMD_MAX,
};
#define SKSPLICE_CMD_MAX (__SKSPLICE_CMD_MAX - 1)

enum sksplice_attr {
	SKSPLICE_A_UNSPEC,
	SKSPLICE_A_PAD,
	SKSPLICE_A_TOKEN,		/* u64: name of an operation, never reused */
	SKSPLICE_A_OWNER,		/* u32: from OWNER_NEW; who gets the completion */
	SKSPLICE_A_KIND,		/* u32: enum sksplice_kind */
	SKSPLICE_A_SOURCE_FD,		/* u32: of the caller */
	SKSPLICE_A_SINK_FD,		/* u32: of the caller */
	SKSPLICE_A_LIMIT,		/* u64: forward: n (of FRAMER's records), absent: to the end of stream; else: the most each way */
	SKSPLICE_A_FLAGS,		/* u32: SKSPLICE_F_* */
	SKSPLICE_A_IDLE_MS,		/* u32: end after so long without a byte; 0: never */
	SKSPLICE_A_USER_DATA,		/* u64: comes back in the event */
	SKSPLICE_A_ERROR,		/* u32: positive errno */
	SKSPLICE_A_BYTES,		/* u64: source to sink */
	SKSPLICE_A_BYTES_BACK,		/* u64: pairs: sink to source */
	SKSPLICE_A_CAUSE,		/* u32: enum sksplice_cause */
	SKSPLICE_A_ENDED,		/* u32: SKSPLICE_END_* */
	SKSPLICE_A_UNACKED,		/* u32: bytes unacknowledged by the sink's peer */
	SKSPLICE_A_STATE,		/* u32: enum sksplice_state */
	SKSPLICE_A_STATE_BACK,		/* u32: pairs */
	SKSPLICE_A_AGE_MS,		/* u64: since it began */
	SKSPLICE_A_QUIET_MS,		/* u64: since a byte last moved, either way */
	SKSPLICE_A_UID,			/* u32: who began it, in the reader's user namespace */
	SKSPLICE_A_PID,			/* u32: who began it, tgid in the initial pid namespace; 0: unknown */
	SKSPLICE_A_SOURCE,		/* nest of SKSPLICE_A_SOCK_* */
	SKSPLICE_A_SINK,		/* nest of SKSPLICE_A_SOCK_* */
	SKSPLICE_A_INLINE,		/* u64: runs in the receive softirq */
	SKSPLICE_A_WORKER,		/* u64: runs in the worker */
	SKSPLICE_A_MISSED,		/* u64: runs put off because a socket was locked */
	SKSPLICE_A_STATS,		/* nest of SKSPLICE_A_STAT_* */
	SKSPLICE_A_COUNT,		/* u32: operations ended by FLUSH */
	SKSPLICE_A_ORPHAN,		/* flag: the owner is gone, the operation goes on */
	SKSPLICE_A_ALL_NETNS,		/* flag, FLUSH: of every netns; needs CAP_NET_ADMIN in the initial one */
	SKSPLICE_A_PREFIX,		/* binary, pieces: sent first */
	SKSPLICE_A_SUFFIX,		/* binary, pieces: sent last, with cause DONE or DELIM */
	SKSPLICE_A_DATA,		/* binary, pieces: of a send, the bytes */
	SKSPLICE_A_DELIM,		/* binary: of a forward, ends after these bytes */
	SKSPLICE_A_FRAMER,		/* u32: of a forward, descriptor of a BPF program that finds its records */
	__SKSPLICE_A_MAX,
};
#define SKSPLICE_A_MAX (__SKSPLICE_A_MAX - 1)

/* One socket, inside SOURCE and SINK. */
enum sksplice_sock_attr {
	SKSPLICE_A_SOCK_UNSPEC,
	SKSPLICE_A_SOCK_LOCAL,		/* binary: a sockaddr of its family, as long as that says */
	SKSPLICE_A_SOCK_REMOTE,		/* binary: a sockaddr of its family, as long as that says */
	SKSPLICE_A_SOCK_INODE,		/* u32: inode number of the socket */
	__SKSPLICE_A_SOCK_MAX,
};
#define SKSPLICE_A_SOCK_MAX (__SKSPLICE_A_SOCK_MAX - 1)

/* Counters since the module was loaded, inside STATS; all u64, of all network namespaces. */
enum sksplice_stat_attr {
	SKSPLICE_A_STAT_UNSPEC,
	SKSPLICE_A_STAT_PAD,
	SKSPLICE_A_STAT_OPS,		/* operations alive now */
	SKSPLICE_A_STAT_OWNERS,		/* owners alive now */
	SKSPLICE_A_STAT_STARTED,	/* operations begun */
	SKSPLICE_A_STAT_REFUSED,	/* operations refused */
	SKSPLICE_A_STAT_ENDED,		/* operations ended */
	SKSPLICE_A_STAT_BYTES,		/* bytes accepted by sinks, of ended and live flows */
	SKSPLICE_A_STAT_INLINE,		/* pump runs in the receive softirq */
	SKSPLICE_A_STAT_WORKER,		/* pump runs in the worker */
	SKSPLICE_A_STAT_MISSED,		/* runs put off because a socket was locked */
	SKSPLICE_A_STAT_BLOCKED,	/* times a sink was found full */
	SKSPLICE_A_STAT_NOMEM,		/* times memory for a send was short */
	SKSPLICE_A_STAT_ZEROCOPY,	/* bytes handed on by page reference */
	SKSPLICE_A_STAT_COPIED,		/* bytes copied */
	SKSPLICE_A_STAT_EVENTS,		/* completions delivered */
	SKSPLICE_A_STAT_OVERRUNS,	/* completions put off: the owner's receive buffer was full */
	SKSPLICE_A_STAT_INTRUDED,	/* flows failed because somebody else used a busy end */
	__SKSPLICE_A_STAT_MAX,
};
#define SKSPLICE_A_STAT_MAX (__SKSPLICE_A_STAT_MAX - 1)

#endif /* _UAPI_SKSPLICE_H */
