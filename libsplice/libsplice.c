// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* The calls on an open context: what every engine has in common, then the engine's part. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine.h"

#define ERRNO_MAX 4095

const char *spl_cause_name(enum spl_cause c)
{
	static const char *const names[] = {
		[SPL_DONE] = "done",
		[SPL_EOF] = "eof",
		[SPL_DELIM] = "delim",
		[SPL_CANCELED] = "canceled",
		[SPL_IDLE] = "idle",
		[SPL_REVOKED] = "revoked",
		[SPL_SOURCE_FAILED] = "source-failed",
		[SPL_SINK_FAILED] = "sink-failed",
	};

	return (unsigned int)c <= SPL_SINK_FAILED ? names[c] : "unknown";
}

static int unsupported(struct spl *s, const char *call)
{
	return spl_refuse(s, -EOPNOTSUPP, "the engine %s does not support %s",
			  spl_engine_name(s->ops->engine), call);
}

static int bad_argument(struct spl *s, const char *what)
{
	return spl_refuse(s, -EINVAL, "%s is NULL", what);
}

/* A splice owns its sockets from now on: what the caller had are names for something gone. */
static void close_given(const struct spl_request *req)
{
	close(req->source);
	if (req->sink != req->source)
		close(req->sink);
}

/* req: kind, source and sink are set, and n of a forward. */
static int start(struct spl *s, struct spl_request *req, const struct spl_opts *opts, uint64_t *token)
{
	struct spl_op *op;
	int r;

	if (!s || !token)
		return bad_argument(s, s ? "token" : "the context");
	r = spl_args_request(s, req, opts);
	if (!r)
		r = spl_args_supported(s, req);
	if (r)
		return r;
	op = spl_op_new(s);
	if (!op)
		return spl_refuse(s, -ENOMEM, NULL);
	r = s->ops->start(s, req, op, token);
	if (r) {
		free(op);
		return r;
	}
	spl_op_begin(s, op, *token);
	if ((req->kind == SPL_OP_SPLICE || req->kind == SPL_OP_PAIR) && !(req->opts.flags & SPL_F_KEEP))
		close_given(req);
	spl_wait_signal(s);
	return 0;
}

int spl_forward(struct spl *s, int source, int sink, uint64_t n, const struct spl_opts *opts, uint64_t *token)
{
	struct spl_request req = { .kind = SPL_OP_FORWARD, .source = source, .sink = sink, .n = n };
	SPL_ERRNO_GUARD;

	return start(s, &req, opts, token);
}

int spl_splice(struct spl *s, int source, int sink, const struct spl_opts *opts, uint64_t *token)
{
	struct spl_request req = { .kind = SPL_OP_SPLICE, .source = source, .sink = sink };
	SPL_ERRNO_GUARD;

	return start(s, &req, opts, token);
}

int spl_splice_pair(struct spl *s, int a, int b, const struct spl_opts *opts, uint64_t *token)
{
	struct spl_request req = { .kind = SPL_OP_PAIR, .source = a, .sink = b };
	SPL_ERRNO_GUARD;

	return start(s, &req, opts, token);
}

int spl_send(struct spl *s, int sink, const void *buf, size_t len, const struct spl_opts *opts,
	     uint64_t *token)
{
	struct spl_request req = { .kind = SPL_OP_SEND, .sink = sink, .n = len, .buf = buf };
	SPL_ERRNO_GUARD;

	if (!s || !token || (!buf && len))
		return bad_argument(s, !s ? "the context" : token ? "buf" : "token");
	if (len > SPL_INSERT_MAX)
		return spl_refuse(s, -EINVAL, "%zu bytes at once: %d are the most", len, SPL_INSERT_MAX);
	return start(s, &req, opts, token);
}

/* A live operation of this context, or why not. An event that waits to be read is an end. */
static int check_live(struct spl *s, uint64_t token)
{
	const struct spl_op *op;

	if (!s)
		return bad_argument(s, "the context");
	op = spl_op_find(s, token);
	if (!op)
		return spl_refuse(s, -ENOENT, "no such operation in this context");
	if (op->ended)
		return spl_refuse(s, -ENOENT, "the operation has ended");
	return 0;
}

int spl_cancel(struct spl *s, uint64_t token)
{
	SPL_ERRNO_GUARD;
	int r = check_live(s, token);

	if (!r)
		r = s->ops->cancel(s, token);
	if (s)
		spl_wait_signal(s);
	return r;
}

int spl_revoke(struct spl *s, uint64_t token, int error)
{
	SPL_ERRNO_GUARD;
	int r;

	if (s && (error < -ERRNO_MAX || error > ERRNO_MAX))
		return spl_refuse(s, -EINVAL, "no errno: %d", error);
	r = check_live(s, token);
	if (r)
		return r;
	if (!error)
		error = ECONNRESET;
	r = s->ops->revoke(s, token, error < 0 ? -error : error);
	spl_wait_signal(s);
	return r;
}

int spl_reclaim(struct spl *s, uint64_t token, int fds[2])
{
	SPL_ERRNO_GUARD;
	int r;

	if (s && !fds)
		return bad_argument(s, "fds");
	r = check_live(s, token);
	if (!r)
		r = s->ops->reclaim(s, token, fds);
	if (s)
		spl_wait_signal(s);
	return r;
}

int spl_stat(struct spl *s, uint64_t token, struct spl_stat *out)
{
	SPL_ERRNO_GUARD;
	int r;

	if (s && !out)
		return bad_argument(s, "out");
	r = check_live(s, token);
	if (!r)
		r = s->ops->stat(s, token, out);
	if (!r)
		out->engine = s->ops->engine;
	return r;
}

int spl_residue(struct spl *s, uint64_t token, void *buf, size_t len)
{
	if (!s || (!buf && len))
		return bad_argument(s, s ? "buf" : "the context");
	return spl_op_residue(s, token, buf, len);
}

int spl_adopt(struct spl *s, uint64_t token)
{
	SPL_ERRNO_GUARD;
	struct spl_op *fresh = NULL;
	int r;

	if (!s)
		return bad_argument(s, "the context");
	if (!s->ops->adopt)
		return unsupported(s, "spl_adopt");
	/* One that was ours before another adopted it has its place still; the engine knows whose it is. */
	if (!spl_op_find(s, token)) {
		fresh = spl_op_new(s);
		if (!fresh)
			return spl_refuse(s, -ENOMEM, NULL);
	}
	r = s->ops->adopt(s, token);
	if (r)
		free(fresh);
	else if (fresh)
		spl_op_begin(s, fresh, token);
	spl_wait_signal(s);
	return r;
}

int spl_writeable(struct spl *s, int sink)
{
	SPL_ERRNO_GUARD;

	if (!s)
		return bad_argument(s, "the context");
	if (sink < 0)
		return spl_refuse(s, -EBADF, "a descriptor is negative");
	return s->ops->writeable ? s->ops->writeable(s, sink) : unsupported(s, "spl_writeable");
}

int spl_next(struct spl *s, struct spl_event *ev, int timeout_ms)
{
	SPL_ERRNO_GUARD;
	int r;

	if (!s || !ev)
		return bad_argument(s, s ? "ev" : "the context");
	r = spl_wait_event(s, NULL, ev, timeout_ms);
	spl_wait_signal(s);
	return r;
}

int spl_wait(struct spl *s, uint64_t token, struct spl_event *ev, int timeout_ms)
{
	SPL_ERRNO_GUARD;
	struct spl_op *op;
	int r;

	if (!s || !ev)
		return bad_argument(s, s ? "ev" : "the context");
	op = spl_op_find(s, token);
	if (!op)
		return spl_refuse(s, -ENOENT, "no such operation in this context");
	r = spl_wait_event(s, op, ev, timeout_ms);
	spl_wait_signal(s);
	return r;
}
