/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/**
 * libsplice: hand two stream sockets over and have the bytes moved for you.
 *
 * All functions return 0 (or a count) or a negative errno, never set errno, never block unless a
 * timeout says so, start no thread and install no signal handler. A struct spl is used by one
 * thread at a time; two contexts are independent. Options structs carry their own size, so they
 * can grow. Contract and words: Documentation/contract.md.
 */
#ifndef LIBSPLICE_H
#define LIBSPLICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef SPL_API
#define SPL_API __attribute__((visibility("default")))
#endif

struct spl;                                     /* a context: engine + completion queue */

enum spl_engine { SPL_ENGINE_AUTO, SPL_ENGINE_KMOD, SPL_ENGINE_SOCKMAP, SPL_ENGINE_USER };

enum spl_cap {                                  /* what the engine in use promises */
	SPL_CAP_EXACT     = 1 << 0,             /* forward(n) never over-reads */
	SPL_CAP_LOSSLESS  = 1 << 1,             /* cancel leaves unaccepted bytes on the source */
	SPL_CAP_EXCLUSIVE = 1 << 2,             /* a copying end refuses its owner with EBUSY */
	SPL_CAP_SURVIVES  = 1 << 3,             /* a splice outlives the process */
	SPL_CAP_ADMIN     = 1 << 4,             /* splicectl sees and ends it */
	SPL_CAP_ZEROCOPY  = 1 << 5,
};

enum spl_open_flag {
	SPL_OPEN_BYPASS = 1 << 0,               /* sockmap: bytes of a pair may go from peer to peer, without this process */
};

struct spl_open_opts {
	size_t sz;
	enum spl_engine engine;
	uint32_t require;               /* caps, else -EOPNOTSUPP */
	const char *cgroup;             /* directory of a cgroup v2 whose sockets the engine sockmap may send to directly; NULL: see Documentation/engines.md */
	const char *ports;              /* of those only what has one of these, as "80,8000-8010", at either end; NULL: all */
	uint32_t flags;                 /* SPL_OPEN_*; what does not concern the engine in use is ignored */
};

SPL_API int  spl_open(struct spl **out, const struct spl_open_opts *opts);    /* opts may be NULL: AUTO */
SPL_API void spl_close(struct spl *s);          /* cancels its forwards (ends given back), leaves its splices running where SURVIVES */
SPL_API int  spl_fd(const struct spl *s);       /* readable when spl_next() has something to do */
SPL_API enum spl_engine spl_engine(const struct spl *s);
SPL_API uint32_t spl_caps(const struct spl *s);

#define SPL_ALL UINT64_MAX              /* until end of stream */

enum spl_flag {
	SPL_F_SHUTDOWN   = 1 << 0,      /* forward: end of source also shuts the sink down */
	SPL_F_DRAIN      = 1 << 1,      /* complete only when the sink's peer has acknowledged every byte */
	SPL_F_CONNECTING = 1 << 2,      /* the sink may still be connecting: start when it is connected */
	SPL_F_KEEP       = 1 << 3,      /* splice: do not close the caller's fds on success */
};

struct spl_opts {
	size_t sz;
	uint32_t flags;
	uint32_t idle_ms;               /* end with SPL_IDLE after so long without a byte; 0: never */
	uint64_t max;                   /* splice: end with SPL_DONE after so many bytes, each way; 0: no limit */
	uint64_t user_data;             /* comes back in the event */
	const void *prefix;  size_t prefix_len;   /* sent to the sink first (<= 64 KiB): bytes already read, or a header */
	const void *suffix;  size_t suffix_len;   /* sent after the last forwarded byte, when cause is SPL_DONE or SPL_DELIM (<= 64 KiB) */
	const void *delim;   size_t delim_len;    /* forward: stop right after this byte sequence (<= 16) */
	int framer;                     /* forward: fd of a BPF program that returns the length of the next record; n then counts records; 0: none */
};

/* 0 and *token: exactly one event will follow, never from inside the call. Negative: nothing happened, nothing will. */
SPL_API int spl_forward(struct spl *s, int source, int sink, uint64_t n, const struct spl_opts *opts, uint64_t *token);
SPL_API int spl_splice(struct spl *s, int source, int sink, const struct spl_opts *opts, uint64_t *token);       /* one way */
SPL_API int spl_splice_pair(struct spl *s, int a, int b, const struct spl_opts *opts, uint64_t *token);          /* both ways */
SPL_API int spl_send(struct spl *s, int sink, const void *buf, size_t len, const struct spl_opts *opts, uint64_t *token);
	/* all of buf is taken (<= 64 KiB) or -EAGAIN; the event says when it has been handed to the transport */

SPL_API int spl_cancel(struct spl *s, uint64_t token);              /* the event comes with SPL_CANCELED and the bytes moved; -ENOENT: already ended */
SPL_API int spl_revoke(struct spl *s, uint64_t token, int error);   /* ends it by force, RST both ways; on return its kernel state is gone */
SPL_API int spl_reclaim(struct spl *s, uint64_t token, int fds[2]); /* dissolves a splice and gives its sockets back as new fds, no byte lost */
struct spl_stat;
SPL_API int spl_stat(struct spl *s, uint64_t token, struct spl_stat *out);        /* live: bytes each way, state, ages, what it waits for */
SPL_API int spl_residue(struct spl *s, uint64_t token, void *buf, size_t len);    /* see "never loses" */
SPL_API int spl_adopt(struct spl *s, uint64_t token);               /* takes over the completion of a running splice of the same user (an upgrade) */

struct spl_event;
SPL_API int spl_next(struct spl *s, struct spl_event *ev, int timeout_ms);        /* 1: one event; 0: none in time */
SPL_API int spl_wait(struct spl *s, uint64_t token, struct spl_event *ev, int timeout_ms);  /* that one; others stay queued */
SPL_API int spl_writeable(struct spl *s, int sink);     /* 1, 0, or why never: the same errno spl_send would give */

enum spl_cause { SPL_DONE, SPL_EOF, SPL_DELIM, SPL_CANCELED, SPL_IDLE, SPL_REVOKED, SPL_SOURCE_FAILED, SPL_SINK_FAILED };
enum spl_end   { SPL_END_SOURCE = 1 << 0, SPL_END_SINK = 1 << 1 };   /* for a pair: a is SOURCE, b is SINK */

struct spl_event {
	uint64_t token, user_data;
	uint64_t bytes;                 /* source to sink (a to b); prefix and suffix not counted */
	uint64_t bytes_back;            /* pairs: b to a */
	enum spl_cause cause;
	int error;                      /* errno of the failed end; 0 when nothing failed */
	uint32_t ended;                 /* which ends are over by now, whatever the cause: SPL_END_* */
	uint32_t unacked;               /* bytes the sink's peer had not acknowledged when the flow ended */
};
enum spl_wants { SPL_WANTS_NOTHING, SPL_WANTS_READ, SPL_WANTS_WRITE };   /* stalled on an empty source, or on a full sink */
struct spl_stat {
	uint64_t bytes, bytes_back;     /* accepted by the sink so far */
	uint64_t age_ms, idle_ms;       /* since it began; since a byte last moved, either way */
	enum spl_wants wants, wants_back;
	enum spl_engine engine;
};
SPL_API const char *spl_cause_name(enum spl_cause c);
SPL_API const char *spl_engine_name(enum spl_engine e);
SPL_API const char *spl_strerror_last(const struct spl *s);     /* the sentence behind the last refusal */

#ifdef __cplusplus
}
#endif

#endif /* LIBSPLICE_H */
