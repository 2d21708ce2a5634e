// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The life of an operation; every change of its phase is in this file, or for LEAVING in user_leave.c:
 *
 *   CONNECTING  the sink is not connected yet, nothing moves
 *   RUNNING     bytes move
 *   SUFFIX      the last of them has, the suffix follows
 *   DRAINING    all is sent, the peer has not acknowledged it yet
 *   LEAVING     it is cancelled, its event as good as collected; but the kernel has bytes for a sink, which stays until it has them
 *   ENDED       the sockets are given back or closed, the event waits to be collected
 */
#include <errno.h>
#include <stdlib.h>

#include "user.h"

#define DRAIN_FIRST_MS	1
#define DRAIN_MOST_MS	64

static int hold(struct user_op *op)
{
	struct user_flow *flow = &op->flow[0];
	int r = flow->src ? user_sock_hold(flow->src) : 0;

	return r ? r : user_sock_hold(flow->dst);
}

/* ---- the beginning */

static void queue_flows(struct user *u, struct user_op *op)
{
	unsigned int i;

	for (i = 0; i < op->flows; i++)
		user_flow_queue(u, &op->flow[i]);
}

/* May bytes go without us? Not where we are to stop them after so many. */
static bool may_bypass(const struct user *u, const struct user_op *op)
{
	return u->bypass && op->kind == SPL_OP_PAIR && op->flow[0].left == SPL_ALL;
}

static void prepare(struct user *u, struct user_op *op)
{
	unsigned int i;

	op->bypassed = may_bypass(u, op);
	for (i = 0; i < op->flows; i++)
		user_option_prepare(op->flow[i].src, op->flow[i].dst, op->peek || op->bypassed || op->kernel);
	if (op->bypassed)
		u->bypass->begin(op);
}

/* Bytes may be there, and room may be: the first attempt tells. */
static void try_now(struct user *u, struct user_op *op)
{
	struct user_flow *flow = &op->flow[0];

	if (flow->src)
		flow->src->ready |= USER_READABLE;
	flow->dst->ready |= USER_WRITABLE;
	if (user_flow_run(u, flow) == USER_MORE)
		user_flow_queue(u, flow);
}

/* Nothing has happened yet that a refusal would hide. */
static bool is_untouched(const struct user_op *op)
{
	const struct user_flow *flow = &op->flow[0];

	return op->phase == USER_RUNNING && !flow->bytes && !flow->pipe && (!flow->out || !flow->out->off) &&
	       !op->prefixed;
}

/* A borrowed source and sink are tried at once: what ends within the call needs no descriptor of its own. */
static int begin_borrowed(struct user *u, struct user_op *op)
{
	struct user_flow *flow = &op->flow[0];
	int r;

	op->prefixed = flow->out;
	try_now(u, op);
	if (op->phase == USER_ENDED)
		return 0;
	op->prefixed = op->prefixed && !flow->out;
	r = hold(op);
	if (!r || is_untouched(op))
		return r;
	op->our_failure = true;
	user_phase_fail(u, op, flow->src ? flow->src : flow->dst, -r);
	return 0;
}

/* The ends are attached. On failure nothing has been moved, and the caller gives the ends back. */
int user_phase_begin(struct user *u, struct user_op *op)
{
	struct user_flow *flow = &op->flow[0];
	bool connecting = flow->dst->connecting;
	bool known = flow->dst->held || (flow->src && flow->src->held);
	int r = op->owns || connecting ? hold(op) : 0;

	if (!r) {
		op->phase = connecting ? USER_CONNECTING : USER_RUNNING;
		if (!connecting)
			prepare(u, op);
		if (!connecting && !op->owns)
			r = begin_borrowed(u, op);
	}
	if (r)
		return spl_refuse(u->spl, r, NULL);
	if (op->idle_ms && op->phase != USER_ENDED && op->phase != USER_DRAINING)
		user_timer_set(u, op, u->now + op->idle_ms);
	/* no edge will come for what was there before */
	if (known && op->owns)
		queue_flows(u, op);
	return 0;
}

/* epoll says something of a socket that was being connected. */
void user_phase_connected(struct user *u, struct user_op *op)
{
	struct user_flow *flow = &op->flow[0];
	int error;

	if (op->phase != USER_CONNECTING)
		return;
	error = user_sock_connected(flow->dst);
	if (error == -EINPROGRESS)
		return;
	if (error) {
		user_phase_fail(u, op, flow->dst, error);
		return;
	}
	flow->dst->connecting = false;
	op->phase = USER_RUNNING;
	prepare(u, op);
	queue_flows(u, op);
}

/* epoll says that the source broke; one whose sink is not connected yet is not read, which would tell. */
void user_phase_source_broke(struct user *u, struct user_flow *flow)
{
	struct user_op *op = flow->op;
	int error = op->phase == USER_CONNECTING && flow == &op->flow[0] ? user_sock_error(flow->src) : 0;

	if (error)
		user_phase_fail(u, op, flow->src, error);
}

/* ---- the end */

/* Then at the latest; a timer is reserved. */
void user_phase_look_by(struct user *u, struct user_op *op, uint64_t due)
{
	if (!op->timer.place || op->timer.due > due)
		user_timer_set(u, op, due);
}

/* Looks again when some time has passed, or earlier. */
void user_phase_look_later(struct user *u, struct user_op *op)
{
	op->drain_ms = op->drain_ms ? op->drain_ms * 2 : DRAIN_FIRST_MS;
	if (op->drain_ms > DRAIN_MOST_MS)
		op->drain_ms = DRAIN_MOST_MS;
	user_phase_look_by(u, op, u->now + op->drain_ms);
}

/* 0; -EAGAIN, -EINPROGRESS: not yet; or a positive errno. */
static int pass_end_on(struct user_flow *flow)
{
	int r = user_tls_finish(flow->dst), error;

	if (r == -EAGAIN || r == -EINPROGRESS)
		return r;
	if (r < 0)
		return (r == -EPIPE || r == -EBADMSG ? user_sock_error(flow->dst) : 0) ?: -r;
	error = user_sock_shutdown(flow->dst);
	flow->shut = true;
	return error == ENOTCONN ? EPIPE : error;
}

/* All that was taken from the source is delivered, and no more will come. A pair lives on until the other way is over. */
void user_phase_eof(struct user *u, struct user_flow *flow)
{
	struct user_op *op = flow->op;
	int r = op->owns || (op->flags & SPL_F_SHUTDOWN) ? pass_end_on(flow) : 0;

	flow->closing = r < 0;
	if (r == -EAGAIN)
		flow->dst->ready &= (uint8_t)~USER_WRITABLE;
	else if (r < 0)
		user_phase_look_later(u, op);
	else if (r)
		user_phase_fail(u, op, flow->dst, r);
	if (r)
		return;
	flow->over = true;
	op->drain_ms = 0;
	flow->stalled = SPL_WANTS_NOTHING;
	if (op->flow[0].over && op->flow[op->flows - 1].over)
		user_phase_finish(u, op, SPL_EOF);
}

static uint32_t unacked(const struct user_op *op)
{
	const struct user_flow *there = &op->flow[0], *back = &op->flow[op->flows - 1];
	uint32_t n = user_sock_unacked(there->dst, there->shut);

	return back == there ? n : n + user_sock_unacked(back->dst, back->shut);
}

static bool closes(const struct user_op *op)
{
	return op->owns && !op->handed_back && !(op->flags & SPL_F_KEEP);
}

static bool settled(const struct user_op *op)
{
	return user_tls_settled(op->flow[0].dst) && (op->flows == 1 || user_tls_settled(op->flow[1].dst));
}

/* Bytes that TLS has accepted would be lost with the socket, as long as TCP does not have them. */
static void drain(struct user *u, struct user_op *op)
{
	bool draining = op->flags & SPL_F_DRAIN;

	if ((!draining || !unacked(op)) && ((!draining && !closes(op)) || settled(op))) {
		user_phase_end(u, op, op->cause, 0);
		return;
	}
	op->phase = USER_DRAINING;
	user_timer_stop(u, op);
	user_phase_look_later(u, op);
}

/* DONE, DELIM or EOF: what follows the last byte follows now. */
void user_phase_finish(struct user *u, struct user_op *op, enum spl_cause cause)
{
	op->cause = (uint8_t)cause;
	if (!op->suffix || cause == SPL_EOF || op->flow[0].over) {
		drain(u, op);
		return;
	}
	op->phase = USER_SUFFIX;
	user_flow_queue(u, &op->flow[0]);
}

/* The flow that the suffix belongs to has nothing to send: the suffix is next, or was last. */
void user_phase_suffixed(struct user *u, struct user_op *op)
{
	if (!op->suffix) {
		drain(u, op);
		return;
	}
	op->flow[0].out = op->suffix;
	op->flow[0].counted = false;
	op->suffix = NULL;
}

/* One end has failed: the operation has. */
void user_phase_fail(struct user *u, struct user_op *op, const struct user_sock *end, int error)
{
	user_phase_end(u, op, end == op->flow[0].src ? SPL_SOURCE_FAILED : SPL_SINK_FAILED, error);
}

/* What is next on the source cannot be forwarded, and stays there: the flow has failed, its ends have not. */
void user_phase_balk(struct user *u, struct user_flow *flow, int error)
{
	flow->op->our_failure = true;
	flow->op->intact = true;
	user_phase_fail(u, flow->op, flow->src, error);
}

/* A refused connection leaves a source that the caller still has for the next attempt. */
static bool resets(const struct user_op *op, enum spl_cause cause)
{
	if (cause == SPL_REVOKED)
		return true;
	if (!op->owns || (cause != SPL_SOURCE_FAILED && cause != SPL_SINK_FAILED))
		return false;
	return !(op->flags & SPL_F_KEEP) || !(op->intact || op->phase == USER_CONNECTING);
}

void user_phase_reset(struct user_op *op)
{
	if (op->flow[0].src)
		user_sock_reset(op->flow[0].src, !closes(op));
	user_sock_reset(op->flow[0].dst, !closes(op));
}

static bool source_over(const struct user_flow *flow)
{
	return flow->eof || (flow->src && user_sock_source_over(flow->src));
}

static uint32_t ended(const struct user_op *op, enum spl_cause cause, bool was_reset)
{
	const struct user_flow *there = &op->flow[0];
	bool failed = !op->our_failure;
	uint32_t ends = 0;

	if (was_reset)
		return SPL_END_SOURCE | SPL_END_SINK;

	if ((failed && cause == SPL_SOURCE_FAILED) || source_over(there))
		ends |= SPL_END_SOURCE;
	if ((failed && cause == SPL_SINK_FAILED) || (op->flows == 2 ? source_over(&op->flow[1]) :
					 there->shut || user_sock_sink_over(there->dst)))
		ends |= SPL_END_SINK;
	return ends;
}

static void release_flow(struct user *u, struct user_flow *flow, struct spl_bytes **residue)
{
	bool wanted = flow->counted || flow->pipe;
	struct spl_bytes *b;

	user_flow_unqueue(u, flow);
	b = user_flow_release(u, flow);
	if (wanted && residue && flow->src)
		*residue = b;
	else
		free(b);
}

/* What a send was asked to send; elsewhere prefix and suffix were not counted in the first place. */
static uint64_t bytes_there(const struct user_op *op)
{
	uint64_t n = op->flow[0].bytes;

	return n > op->lead ? n - op->lead : 0;
}

/* The event, as of now. */
void user_phase_describe(struct user_op *op, enum spl_cause cause, int error, bool resetting)
{
	op->ev = (struct spl_event) {
		.token = op->public->token,
		.user_data = op->user_data,
		.bytes = bytes_there(op),
		.bytes_back = op->flows == 2 ? op->flow[1].bytes : 0,
		.cause = cause,
		.error = error,
		.unacked = op->phase == USER_CONNECTING ? 0 : user_sock_unacked(op->flow[0].dst, op->flow[0].shut),
		.ended = ended(op, cause, resetting),
	};
}

/* What the flows hold. */
void user_phase_release(struct user *u, struct user_op *op)
{
	unsigned int i;

	for (i = 0; i < op->flows; i++)
		release_flow(u, &op->flow[i], op->flows == 1 ? &op->public->residue : NULL);
}

/* What the kernel has. */
void user_phase_drop(struct user *u, struct user_op *op)
{
	unsigned int i;

	for (i = 0; i < op->flows; i++)
		if (op->flow[i].kernel)
			u->mover->drop(u, &op->flow[i], false);
}

/* By any cause, at once. The ends are free when this returns; the event comes with the next collection. */
void user_phase_end(struct user *u, struct user_op *op, enum spl_cause cause, int error)
{
	bool resetting = resets(op, cause);

	if (op->bypassed)
		u->bypass->end(op);
	user_phase_drop(u, op);
	user_phase_describe(op, cause, error, resetting);
	user_timer_stop(u, op);
	user_phase_release(u, op);
	if (resetting)
		user_phase_reset(op);
	user_op_detach(op, closes(op));
	op->phase = USER_ENDED;
	TAILQ_INSERT_TAIL(&u->done, op, done);
}

/* Ended the connection before all was acknowledged? The last acknowledgment may end it, too. */
static bool broke(struct user *u, struct user_flow *flow)
{
	int error;

	if (!user_sock_unacked(flow->dst, flow->shut))
		return false;
	error = user_sock_error(flow->dst);
	if (!error || !user_sock_unacked(flow->dst, flow->shut))
		return false;
	user_phase_fail(u, flow->op, flow->dst, error);
	return true;
}

/* How many bytes the peer acknowledges counts as bytes moved. */
static void look_at_drain(struct user *u, struct user_op *op)
{
	uint32_t left = unacked(op);
	unsigned int i;

	for (i = 0; i < op->flows; i++)
		if (broke(u, &op->flow[i]))
			return;
	if (left != op->unacked)
		op->moved = u->now;
	op->unacked = left;
	if (left && op->idle_ms && u->now - op->moved >= op->idle_ms)
		user_phase_end(u, op, SPL_IDLE, 0);
	else
		drain(u, op);
}

/* The operation goes on: its timer is for the idle limit again, for sinks that could not be told the end yet, and for the kernel's flows. */
static void look_on(struct user *u, struct user_op *op, uint64_t due)
{
	unsigned int i;

	if (op->idle_ms)
		user_timer_set(u, op, due);
	for (i = 0; i < op->flows; i++)
		if (op->flow[i].closing || op->flow[i].kernel)
			user_flow_queue(u, &op->flow[i]);
}

/* Its timer has come. */
void user_phase_timed(struct user *u, struct user_op *op)
{
	uint64_t due;

	if (op->bypassed)
		u->bypass->look(op);
	due = op->moved + op->idle_ms;
	if (op->phase == USER_DRAINING)
		look_at_drain(u, op);
	else if (op->phase == USER_LEAVING)
		user_leave_timed(u, op);
	else if (op->flow[0].queued || op->flow[op->flows - 1].queued)
		user_timer_set(u, op, u->now + 1);
	else if (op->idle_ms && due <= u->now)
		user_phase_end(u, op, SPL_IDLE, 0);
	else
		look_on(u, op, due);
}
