// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The pump of one direction. Three ways to move bytes:
 *
 *   copy   recv, send. What a full sink does not take is kept in flow->out until it does.
 *   peek   recv(MSG_PEEK), send, and then the source gives up what the sink took: nothing is
 *          ever held, for one more system call.
 *          Of a unix socket always, which may bring what is no byte.
 *   bulk   splice(2) through a pipe from the pool, when the source keeps filling the buffer: below
 *          some KB two splices cost more than a copy, above they cost less.
 *
 * Files are watched edge-triggered: USER_READABLE and USER_WRITABLE stay until a call has shown otherwise.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "user.h"

#define SHARE		(1024 * 1024)	/* bytes of one flow before the others get their turn */
#define BULK_AFTER	2		/* full buffers in a row */
#define BULK_LEAST	(4 * USER_BUFFER)	/* a forward of less is copied */
#define BULK_SMALL	8192		/* a splice of less would better have been a copy */
#define BULK_PATIENCE	4		/* such splices in a row */

struct spl_bytes *user_bytes_new(size_t len)
{
	struct spl_bytes *b = malloc(sizeof(*b) + len);

	if (b) {
		b->off = 0;
		b->len = len;
	}
	return b;
}

/* The sink has accepted bytes that came from the source. */
static void moved(struct user *u, struct user_flow *flow, size_t n)
{
	flow->bytes += n;
	flow->op->moved = u->now;
}

/* ---- what goes first: prefix, suffix, what a full sink left over, the bytes of a send */

static enum user_verdict push_out(struct user *u, struct user_flow *flow, size_t *share)
{
	struct spl_bytes *out = flow->out;
	ssize_t n = user_io_write(flow->dst, out->data + out->off, out->len - out->off);

	if (n < 0)
		return user_stall_write(u, flow, n);
	out->off += (size_t)n;
	if (flow->counted)
		moved(u, flow, (size_t)n);
	else
		flow->op->moved = u->now;
	*share -= (size_t)n < *share ? (size_t)n : *share;
	if (out->off < out->len)
		return user_stall_short(flow);
	flow->out = NULL;
	flow->counted = false;
	free(out);
	return USER_MORE;
}

/* ---- bulk */

/* May both files be spliced without blocking? Borrowed sockets are left as they are: their other halves are the caller's. */
static bool can_bulk(const struct user_flow *flow)
{
	const struct user_op *op = flow->op;

	return op->pipes && (op->kind != SPL_OP_FORWARD || flow->left >= BULK_LEAST) &&
	       user_option_nonblock(flow->src, op->owns) && user_option_nonblock(flow->dst, op->owns);
}

/*
 * Taken unseen, descriptors would be lost. TLS splices one record a call, and knows no end of a record but the next write.
 * splice() passes by what was redirected; into a hop some kernels take it page by page, each a message.
 */
static bool may_bulk(const struct user_flow *flow)
{
	return flow->src->kind != USER_UNIX && !flow->src->tls && !flow->dst->tls && !flow->src->learned &&
	       !flow->dst->learned && (!flow->dst->hops || flow->dst->user->splices);
}

/* Counts the reads that came full. */
static void heed_size(struct user_flow *flow, bool full)
{
	flow->streak = full && may_bulk(flow) ? flow->streak + 1 : 0;
	if (flow->streak < BULK_AFTER)
		return;
	flow->streak = 0;
	flow->op->pipes = can_bulk(flow);
	/* what is in a pipe the kernel takes for delivered */
	flow->bulk = flow->op->pipes && (!flow->sender || flow->src->user->bypass->hold(flow, true));
}

static void end_bulk(struct user_flow *flow)
{
	flow->bulk = false;
	flow->streak = 0;
}

/* The caller has made a borrowed sink blocking: on with a copy. */
static enum user_verdict unpipe(struct user *u, struct user_flow *flow)
{
	flow->op->pipes = false;
	end_bulk(flow);
	flow->out = user_flow_release(u, flow);
	flow->counted = true;
	if (flow->out)
		return USER_MORE;
	user_phase_fail(u, flow->op, flow->src, ENOMEM);
	return USER_OVER;
}

static enum user_verdict drain_pipe(struct user *u, struct user_flow *flow, size_t *share)
{
	struct user_pipe *p = flow->pipe;
	ssize_t n;

	if (!flow->op->owns && !user_option_nonblock(flow->dst, false))
		return unpipe(u, flow);
	if (flow->dst->nagle)
		user_option_unnagle(flow->dst);
	n = user_io_splice_out(p, flow->dst);

	if (n <= 0)
		return user_stall_write(u, flow, n ? n : -EPIPE);
	p->len -= (size_t)n;
	moved(u, flow, (size_t)n);
	*share -= (size_t)n < *share ? (size_t)n : *share;
	if (p->len)
		return user_stall_short(flow);
	user_pipe_put(u, p);
	flow->pipe = NULL;
	return USER_MORE;
}

/* As of a read of one byte: splice() would wait on a borrowed source that the caller has made blocking meanwhile. */
static ssize_t peer_has(struct user_flow *flow)
{
	return flow->op->owns || flow->src->kind == USER_PIPE ? 1 : user_io_look(flow->src);
}

/*
 * Is this no end? splice() does not see what a sockmap has redirected to a socket. Nobody says that a socket is in one:
 * another process may have put it there.
 */
static bool passed_by(const struct user_flow *flow, ssize_t n)
{
	if (n || flow->src->kind != USER_TCP)
		return false;
	n = user_io_look(flow->src);
	if (n < 0 && n != -EAGAIN)
		user_busy_note(flow->src, (int)-n);
	return n > 0;
}

static enum user_verdict fill_pipe(struct user *u, struct user_flow *flow, size_t *share)
{
	struct user_pipe *p = user_pipe_get(u);
	ssize_t n;

	if (!p) {
		end_bulk(flow);
		return USER_MORE;
	}
	n = peer_has(flow);
	if (n > 0)
		n = user_io_splice_in(flow->src, p, flow->left < p->size ? (size_t)flow->left : p->size);
	if (n <= 0) {
		user_pipe_put(u, p);
		/* what recv() says of it counts, unless that is known to be the same */
		if (n == -EAGAIN && flow->src->kind == USER_TCP && !user_io_is_pure(flow->src)) {
			end_bulk(flow);
			return USER_MORE;
		}
		if (n != -EINVAL && !passed_by(flow, n))
			return user_stall_read(u, flow, n, share);
		/* not every file can be spliced, and not all that is there to be read */
		flow->op->pipes = false;
		end_bulk(flow);
		return USER_MORE;
	}
	p->len = (size_t)n;
	flow->pipe = p;
	if (flow->left != SPL_ALL)
		flow->left -= (size_t)n;
	flow->streak = n < BULK_SMALL ? flow->streak + 1 : 0;
	if (flow->streak >= BULK_PATIENCE)
		end_bulk(flow);
	return USER_MORE;
}

/* ---- copy */

static size_t wanted(const struct user *u, const struct user_flow *flow)
{
	return flow->left < sizeof(u->buf) ? (size_t)flow->left : sizeof(u->buf);
}

/* The sink took n of len bytes in u->buf: the rest waits. */
static enum user_verdict spill(struct user *u, struct user_flow *flow, size_t n, size_t len)
{
	flow->out = user_bytes_new(len - n);
	if (!flow->out) {
		user_phase_fail(u, flow->op, flow->src, ENOMEM);
		return USER_OVER;
	}
	memcpy(flow->out->data, u->buf + n, len - n);
	flow->counted = true;
	return n ? user_stall_short(flow) : user_stall_full(flow);
}

static enum user_verdict copy_step(struct user *u, struct user_flow *flow, size_t *share)
{
	size_t want = wanted(u, flow);
	ssize_t got = user_io_read(flow->src, u->buf, want), n;

	if (got <= 0)
		return user_stall_read(u, flow, got, share);
	if (flow->left != SPL_ALL)
		flow->left -= (size_t)got;
	n = user_io_write(flow->dst, u->buf, (size_t)got);
	if (n < 0 && n != -EAGAIN)
		return user_stall_write(u, flow, n);
	if (n > 0)
		moved(u, flow, (size_t)n);
	if (n < got)
		return spill(u, flow, n > 0 ? (size_t)n : 0, (size_t)got);
	*share -= (size_t)n < *share ? (size_t)n : *share;
	heed_size(flow, (size_t)got == sizeof(u->buf));
	if ((size_t)got < want && user_stall_proven(flow->src))
		return user_stall_empty(flow);
	return USER_MORE;
}

/* ---- peek */

/*
 * How much of what is in u->buf belongs to the flow. What a delimiter was looked for in, and the sink did not take at
 * once, is sent later without looking again.
 */
static size_t vet(const struct user *u, struct user_flow *flow, size_t len)
{
	unsigned int matched = flow->matched;
	bool found;

	if (flow->vetted || !flow->op->delim_len)
		return len;
	flow->vetted = (uint32_t)user_delim_find(flow->op, &matched, u->buf, len, &found);
	flow->matched = (uint8_t)matched;
	flow->found = found;
	return flow->vetted;
}

/* The sink has accepted so many of the bytes in u->buf, which the source still has. */
static int take(struct user *u, struct user_flow *flow, size_t n)
{
	if (flow->vetted) {
		flow->vetted -= (uint32_t)n;
		flow->delimited = flow->found && !flow->vetted;
	}
	if (flow->left != SPL_ALL)
		flow->left -= n;
	moved(u, flow, n);
	return user_io_consume(u, flow->src, n);
}

static enum user_verdict peek_step(struct user *u, struct user_flow *flow, size_t *share)
{
	size_t want = flow->vetted ? flow->vetted : wanted(u, flow), len;
	ssize_t got = user_io_peek(u, flow->src, want), n;
	int r;

	if (got <= 0)
		return user_stall_read(u, flow, got, share);
	len = vet(u, flow, (size_t)got);
	n = user_io_write(flow->dst, u->buf, len);
	if (n < 0)
		return user_stall_write(u, flow, n);
	r = take(u, flow, (size_t)n);
	if (r) {
		user_phase_fail(u, flow->op, flow->src, -r);
		return USER_OVER;
	}
	*share -= (size_t)n < *share ? (size_t)n : *share;
	heed_size(flow, (size_t)got == sizeof(u->buf));
	if ((size_t)n < len)
		return user_stall_short(flow);
	if ((size_t)got < want && len == (size_t)got && user_stall_proven(flow->src))
		return user_stall_empty(flow);
	return USER_MORE;
}

/* ---- the whole */

/* Does an error of the sink that epoll told of end the operation? */
static bool sink_failed(struct user *u, struct user_flow *flow)
{
	int error;

	if (!(flow->dst->ready & USER_ERROR))
		return false;
	flow->dst->ready &= (uint8_t)~USER_ERROR;
	error = user_sock_error(flow->dst);
	if (error)
		user_phase_fail(u, flow->op, flow->dst, error);
	return error;
}

/* Nothing is left to be sent. Has the flow come to its end, or the suffix been sent? */
static bool ends(struct user *u, struct user_flow *flow)
{
	struct user_op *op = flow->op;

	if (op->phase == USER_SUFFIX)
		user_phase_suffixed(u, op);
	else if (!flow->src || !flow->left)
		user_phase_finish(u, op, SPL_DONE);
	else if (flow->delimited)
		user_phase_finish(u, op, SPL_DELIM);
	else if (flow->eof)
		user_phase_eof(u, flow);
	else
		return false;
	return true;
}

/* Only one flow goes on while a suffix is sent. */
static bool may_run(const struct user_flow *flow)
{
	const struct user_op *op = flow->op;

	return !flow->over && (op->phase == USER_RUNNING || (op->phase == USER_SUFFIX && flow == op->flow));
}

static enum user_verdict step(struct user *u, struct user_flow *flow, size_t *share)
{
	bool room = flow->dst->ready & USER_WRITABLE;

	if (flow->out || flow->pipe) {
		if (!room)
			return USER_WANTS_WRITE;
		return flow->out ? push_out(u, flow, share) : drain_pipe(u, flow, share);
	}
	if (flow->held && !flow->bulk)
		u->bypass->hold(flow, false);
	if (ends(u, flow))
		return flow->closing ? USER_WANTS_WRITE : may_run(flow) ? USER_MORE : USER_OVER;
	if (flow->kernel || (flow->op->kernel && !flow->offered))
		return u->mover->run(u, flow);
	if (!(flow->src->ready & USER_READABLE))
		return USER_WANTS_READ;
	if (!room)
		return USER_WANTS_WRITE;
	if (flow->bulk)
		return fill_pipe(u, flow, share);
	if (flow->op->peek || flow->src->kind == USER_UNIX)
		return peek_step(u, flow, share);
	return copy_step(u, flow, share);
}

void user_flow_queue(struct user *u, struct user_flow *flow)
{
	if (flow->queued || !may_run(flow))
		return;
	flow->queued = true;
	u->runs++;
	TAILQ_INSERT_TAIL(&u->run, flow, run);
}

void user_flow_unqueue(struct user *u, struct user_flow *flow)
{
	if (!flow->queued)
		return;
	flow->queued = false;
	u->runs--;
	TAILQ_REMOVE(&u->run, flow, run);
}

/* One turn. Afterwards the operation may have ended: its memory is there until its event is collected. */
enum user_verdict user_flow_run(struct user *u, struct user_flow *flow)
{
	enum user_verdict v = USER_MORE;
	size_t share = SHARE;

	if (!may_run(flow) || sink_failed(u, flow))
		return USER_OVER;
	while (v == USER_MORE && share)
		v = step(u, flow, &share);
	if (v != USER_OVER)
		flow->stalled = v == USER_WANTS_READ ? SPL_WANTS_READ :
				v == USER_WANTS_WRITE ? SPL_WANTS_WRITE : SPL_WANTS_NOTHING;
	if (flow->op->record)
		u->book->note(flow->op);
	return v;
}

/* Has it taken bytes from the source that the sink has not accepted? */
bool user_flow_holds(const struct user_flow *flow)
{
	return flow->pipe || (flow->out && flow->counted);
}

/* Those bytes, NULL if there are none; the flow is empty afterwards. Bytes for which there is no memory are lost. */
struct spl_bytes *user_flow_release(struct user *u, struct user_flow *flow)
{
	struct user_pipe *p = flow->pipe;
	struct spl_bytes *b = flow->out;
	ssize_t n;

	flow->out = NULL;
	flow->pipe = NULL;
	if (!p)
		return b;
	b = user_bytes_new(p->len);
	for (size_t got = 0; b && got < b->len; got += (size_t)n) {
		n = read(p->fd[0], b->data + got, b->len - got);
		if (n <= 0)
			break;
		p->len -= (size_t)n;
	}
	user_pipe_put(u, p);
	return b;
}
