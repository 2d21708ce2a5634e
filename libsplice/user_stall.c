// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * What it means when a call has moved nothing, or less than was asked for: the source is empty for now or at its end, the
 * sink is full, or one of them has failed.
 */
#include <errno.h>

#include "user.h"

#define RECORD_SHARE	4096		/* what a record without bytes counts for in a flow's share */

/* The next step sees what follows from it. */
enum user_verdict user_stall_empty(struct user_flow *flow)
{
	flow->src->ready &= (uint8_t)~USER_READABLE;
	return USER_MORE;
}

enum user_verdict user_stall_full(struct user_flow *flow)
{
	flow->dst->ready &= (uint8_t)~USER_WRITABLE;
	return USER_MORE;
}

/* Does this error say that what comes next is no bytes? */
static bool balks(const struct user_sock *src, ssize_t n)
{
	return (n == -EPROTO && (src->kind == USER_UNIX || src->tls)) || (n == -EKEYEXPIRED && src->tls);
}

/*
 * No bytes is the end of the stream, unless they are missing because the connection was reset and another operation was
 * told. That one's thread may not have noted it yet: a connection whose end nobody has sent is over because it failed.
 */
static int missing(struct user_sock *src)
{
	bool written;

	if (src->kind != USER_TCP || user_tls_closed(src))
		return 0;
	/* before a look at the error: who is not there any more has noted it */
	written = user_busy_written(src);
	if (!src->error && written && user_sock_over(src))
		return ECONNRESET;
	/* EPIPE is a reset that came after the end */
	return src->error == EPIPE ? 0 : src->error;
}

/* A read did not bring bytes. */
enum user_verdict user_stall_read(struct user *u, struct user_flow *flow, ssize_t n, size_t *share)
{
	const struct user_op *op = flow->op;
	int error;

	if (flow->src->tls && (!n || n == -EIO)) {
		n = user_tls_head(u, flow->src, op->owns && !(op->flags & SPL_F_KEEP));
		*share -= *share < RECORD_SHARE ? *share : RECORD_SHARE;
	}
	if (n > 0)
		return USER_MORE;
	if (n == -EAGAIN)
		return user_stall_empty(flow);
	if (balks(flow->src, n)) {
		user_phase_balk(u, flow, (int)-n);
		return USER_OVER;
	}
	error = n ? (int)-n : missing(flow->src);
	if (!error) {
		flow->eof = true;
		return USER_MORE;
	}
	user_busy_note(flow->src, error);
	user_phase_fail(u, flow->op, flow->src, error);
	return USER_OVER;
}

/* A write failed. The socket's own word is better than EPIPE. */
enum user_verdict user_stall_write(struct user *u, struct user_flow *flow, ssize_t n)
{
	int error = 0;

	if (n == -EAGAIN)
		return user_stall_full(flow);
	/* which is also TLS's for a connection that is no more */
	if (n == -EPIPE || (n == -EBADMSG && flow->dst->tls))
		error = flow->dst->error ? flow->dst->error : user_sock_error(flow->dst);
	if (!error)
		error = (int)-n;
	user_busy_note(flow->dst, error);
	user_phase_fail(u, flow->op, flow->dst, error);
	return USER_OVER;
}

/*
 * After a read of less than was asked for: TCP had no more, unless the end is near or an urgent byte is in the way. Of TLS
 * it may have been a record of another type; of a socket in a sockmap redirected bytes, before TCP's.
 */
bool user_stall_proven(struct user_sock *src)
{
	return src->kind == USER_TCP && !src->tls && !src->learned && !(src->ready & USER_HUP) && user_io_is_pure(src);
}

/* After a write of less than was given. */
enum user_verdict user_stall_short(struct user_flow *flow)
{
	return flow->dst->kind == USER_TCP && !flow->dst->tls && !flow->dst->hops ? user_stall_full(flow) : USER_MORE;
}
