/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/*
 * Private to the library: the context, the operations of an engine, and an index of the
 * functions shared between files, under the name of the file that holds them.
 */
#ifndef SPL_ENGINE_H
#define SPL_ENGINE_H

#include <stdbool.h>

#include "libsplice.h"

#define SPL_SENTENCE_MAX	256
#define SPL_INSERT_MAX		65536	/* prefix, suffix, one spl_send() */
#define SPL_DELIM_MAX		16

struct spl_engine_ops;

enum spl_op_kind { SPL_OP_FORWARD, SPL_OP_SPLICE, SPL_OP_PAIR, SPL_OP_SEND };

/*
 * One operation of this context, from its start until its event is read. The event has its
 * place in here, so that its arrival needs no memory and cannot fail.
 */
struct spl_op {
	struct spl_op *chain;		/* next in the same bucket */
	struct spl_op *prev, *next;	/* neighbours in the queue of events, once ended */
	uint64_t token;
	void *priv;			/* the engine's, while the operation lives */
	struct spl_bytes *residue;	/* once ended: taken from the source, not accepted by the sink */
	bool ended;
	struct spl_event ev;		/* valid once ended */
};

/* Bytes on the heap, those from off to len still wanted. */
struct spl_bytes {
	size_t off, len;
	unsigned char data[];
};

struct spl_queue {
	struct spl_op **bucket;
	size_t buckets;			/* a power of two, or 0 before the first operation */
	size_t ops;
	struct spl_op *first, *last;	/* events not yet read, in the order of their arrival */
};

/* A checked request, options filled up with zeroes where the caller's are shorter. */
struct spl_request {
	enum spl_op_kind kind;
	int source, sink;
	uint64_t n;			/* forward: bytes or SPL_ALL; splices: most each way, 0: no limit; send: bytes */
	struct spl_opts opts;
	const void *buf;		/* of a send: n bytes */
};

struct spl {
	const struct spl_engine_ops *ops;
	void *priv;			/* the engine's */
	int engine_fd;			/* readable when ops->collect() has something to do; the engine's */
	int poll_fd;			/* spl_fd(): an epoll of engine_fd and wake_fd; or engine_fd, itself one */
	int wake_fd;			/* eventfd, set while the queue is not empty */
	bool awake;			/* wake_fd is set */
	int also_fd;			/* -1, or a descriptor of the program that ends a wait */
	bool plain;			/* see spl_plain() */
	bool lazy;			/* see spl_lazy() */
	bool also_ready;		/* it was readable: the next wait returns at once */
	const char *cgroup, *ports;	/* of spl_open_opts, while it opens */
	uint32_t open_flags;		/* and its flags */
	bool behind;			/* collect() has something to do though engine_fd may be silent */
	uint32_t caps;			/* what this context promises: ops->caps, or more if required */
	uint64_t last_read;		/* token of the event read last */
	struct spl_bytes *last_residue;	/* and its residue */
	struct spl_queue queue;
	char sentence[SPL_SENTENCE_MAX];
};

/*
 * What an engine does. All return 0 or a negative errno and leave a sentence with spl_refuse()
 * when they refuse. A missing function is answered -EOPNOTSUPP by the dispatcher. Functions
 * that take a token are called for live operations only.
 */
struct spl_engine_ops {
	enum spl_engine engine;
	uint32_t caps;
	uint32_t optional;		/* caps a context has when they are required of it */
	uint32_t flags;			/* SPL_F_* that start() knows */
	uint32_t features;		/* SPL_FEATURE_* that start() knows */
	bool epolls;			/* engine_fd is an epoll descriptor, in which events without data are ignored */

	int (*open)(struct spl *s);
	void (*close)(struct spl *s);
	/* op is the engine's to mark with priv; it becomes known to spl_op_find() after the call. */
	int (*start)(struct spl *s, const struct spl_request *req, struct spl_op *op, uint64_t *token);
	int (*cancel)(struct spl *s, uint64_t token);
	int (*revoke)(struct spl *s, uint64_t token, int error);	/* error: positive */
	int (*reclaim)(struct spl *s, uint64_t token, int fds[2]);
	int (*stat)(struct spl *s, uint64_t token, struct spl_stat *out);
	int (*writeable)(struct spl *s, int sink);
	/* The token is not one of this context's yet; its event may come from now on. */
	int (*adopt)(struct spl *s, uint64_t token);
	/* Hands arrivals on to spl_op_end(), after waiting so long for one at most; 1: look at the queue, 0: none. */
	int (*collect)(struct spl *s, int timeout_ms);
};

#define SPL_FEATURE_PREFIX	(1u << 0)
#define SPL_FEATURE_SUFFIX	(1u << 1)
#define SPL_FEATURE_DELIM	(1u << 2)
#define SPL_FEATURE_FRAMER	(1u << 3)
#define SPL_FEATURE_SEND	(1u << 4)

/* error.c */
int spl_refuse(struct spl *s, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
struct spl_errno_guard { int saved; };
void spl_errno_restore(struct spl_errno_guard *g);
/* Leaves errno at the end of the scope as it was here. */
#define SPL_ERRNO_GUARD \
	struct spl_errno_guard errno_guard __attribute__((cleanup(spl_errno_restore), unused)) = { errno }

/* args.c */
int spl_args_open(const struct spl_open_opts *in, struct spl_open_opts *out);
int spl_args_request(struct spl *s, struct spl_request *req, const struct spl_opts *in);
int spl_args_supported(struct spl *s, const struct spl_request *req);

/* queue.c */
struct spl_op *spl_op_new(struct spl *s);
void spl_op_begin(struct spl *s, struct spl_op *op, uint64_t token);
struct spl_op *spl_op_find(const struct spl *s, uint64_t token);
void spl_op_end(struct spl *s, const struct spl_event *ev);
void spl_op_read(struct spl *s, struct spl_op *op, struct spl_event *ev);
int spl_op_residue(struct spl *s, uint64_t token, void *buf, size_t len);
void spl_queue_each(struct spl *s, void (*fn)(struct spl_op *op, void *data), void *data);
void spl_queue_free(struct spl *s);

/* wait.c */
int spl_wait_open(struct spl *s);
void spl_wait_close(struct spl *s);
void spl_wait_signal(struct spl *s);
void spl_wait_quiet(struct spl *s);
int spl_wait_event(struct spl *s, struct spl_op *wanted, struct spl_event *ev, int timeout_ms);

/* probe.c */
int spl_probe_forward(struct spl *s);

/* engine_kmod.c, engine_user.c */
extern const struct spl_engine_ops spl_engine_kmod, spl_engine_user, spl_engine_sockmap;

#endif /* SPL_ENGINE_H */
