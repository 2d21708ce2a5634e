// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The life of an operation; every change of its phase is in this file:
 *
 *   CONNECTING  the sink is not connected yet, nothing moves
 *   RUNNING     bytes move
 *   SUFFIX      the last of them has, the suffix follows
 *   DRAINING    all is sent, the peer has not acknowledged it yet
 *   ENDED       the sockets are given back or closed, the event waits to be collected
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "user.h"

#define DRAIN_FIRST_MS	1
#define DRAIN_MOST_MS	64

static bool timed(const struct spl_opts *opts)
{
	return opts->idle_ms || (opts->flags & SPL_F_DRAIN);
}

static struct spl_bytes *bytes_of(const void *data, size_t len)
{
	struct spl_bytes *b = user_bytes_new(len);

	if (b && len)
		memcpy(b->data, data, len);
	return b;
}

/* What is sent before anything is read: the prefix; of a send, all there is. */
static int load_out(struct user_flow *flow, const struct spl_request *req)
{
	const struct spl_opts *o = &req->opts;
	size_t body = req->kind == SPL_OP_SEND ? (size_t)req->n : 0;

	if (!o->prefix_len && !body)
		return 0;
	flow->out = user_bytes_new(o->prefix_len + body);
	if (!flow->out)
		return -ENOMEM;
	if (o->prefix_len)
		memcpy(flow->out->data, o->prefix, o->prefix_len);
	if (body)
		memcpy(flow->out->data + o->prefix_len, req->buf, body);
	flow->counted = body;
	flow->op->lead = body ? (uint32_t)o->prefix_len : 0;
	return 0;
}

static uint64_t limit_of(const struct spl_request *req)
{
	switch (req->kind) {
	case SPL_OP_FORWARD:
		return req->n;
	case SPL_OP_SEND:
		return 0;
	default:
		return req->n ? req->n : SPL_ALL;
	}
}

/* Bytes of borrowed and kept ends stay where they are until the sink has them; see Documentation/engines.md. */
static void choose_path(const struct user *u, struct user_op *op, const struct spl_request *req)
{
	bool lossless = (u->spl->caps & SPL_CAP_LOSSLESS) || (req->opts.flags & SPL_F_KEEP) || req->opts.delim_len;

	op->owns = req->kind == SPL_OP_SPLICE || req->kind == SPL_OP_PAIR;
	op->peek = lossless || !op->owns;
	op->pipes = !lossless;
}

static void init_flows(struct user_op *op, const struct spl_request *req)
{
	unsigned int i;

	for (i = 0; i < op->flows; i++) {
		op->flow[i].op = op;
		op->flow[i].left = limit_of(req);
	}
}

static int load(struct user *u, struct user_op *op, const struct spl_request *req)
{
	const struct spl_opts *o = &req->opts;
	int r;

	if (load_out(&op->flow[0], req))
		return -ENOMEM;
	if (o->suffix_len && !(op->suffix = bytes_of(o->suffix, o->suffix_len)))
		return -ENOMEM;
	if (!timed(o))
		return 0;
	r = user_timer_reserve(u);
	op->timed = !r;
	return r;
}

int user_op_new(struct user *u, const struct spl_request *req, struct user_op **out)
{
	unsigned int flows = req->kind == SPL_OP_PAIR ? 2 : 1;
	const struct spl_opts *o = &req->opts;
	struct user_op *op = calloc(1, sizeof(*op) + flows * sizeof(op->flow[0]));
	int r;

	if (!op)
		return -ENOMEM;
	op->kind = (uint8_t)req->kind;
	op->flows = (uint8_t)flows;
	op->flags = o->flags;
	op->idle_ms = o->idle_ms;
	op->user_data = o->user_data;
	op->delim_len = (uint8_t)o->delim_len;
	if (o->delim_len)
		memcpy(op->delim, o->delim, o->delim_len);
	op->began = op->moved = u->now;
	choose_path(u, op, req);
	init_flows(op, req);
	r = load(u, op, req);
	if (r)
		user_op_free(u, op);
	else
		*out = op;
	return r;
}

void user_op_free(struct user *u, struct user_op *op)
{
	if (op->timed)
		user_timer_unreserve(u);
	free(op->flow[0].out);
	free(op->suffix);
	free(op);
}

/* ---- ends */

static void attach(struct user_flow *flow, struct user_sock *src, struct user_sock *dst)
{
	flow->src = src;
	flow->dst = dst;
	if (src)
		src->rx = flow;
	dst->tx = flow;
}

/* An end for one half or both, checked. */
int user_op_take_end(struct user *u, int fd, unsigned int halves, bool may_connect, struct user_sock **out)
{
	int r = user_busy_take(u, fd, halves, out);

	u->asked_for = fd;
	if (r)
		return r;
	r = user_sock_admit(*out, halves, may_connect);
	if (r) {
		user_sock_put(*out, halves, false);
		*out = NULL;
	}
	return r;
}

/* Takes the ends, or none. */
int user_op_attach(struct user *u, struct user_op *op, const struct spl_request *req)
{
	bool pair = req->kind == SPL_OP_PAIR, may_connect = req->opts.flags & SPL_F_CONNECTING;
	unsigned int rx = pair ? USER_RX | USER_TX : USER_RX, tx = pair ? USER_RX | USER_TX : USER_TX;
	struct user_sock *src = NULL, *dst = NULL;
	int r = 0;

	if (req->kind != SPL_OP_SEND)
		r = user_op_take_end(u, req->source, rx, false, &src);
	if (r)
		return user_busy_check_file(u, req->sink, r);
	r = user_op_take_end(u, req->sink, tx, may_connect, &dst);
	if (r == -EBUSY && pair && user_busy_same(src, req->sink))
		r = spl_refuse(u->spl, -EINVAL, "a pair takes two sockets, not the same one twice");
	if (!r && src)
		r = user_sock_mirror(u, src, dst);
	if (r) {
		if (dst)
			user_sock_put(dst, tx, false);
		if (src)
			user_sock_put(src, rx, false);
		return r;
	}
	dst->plain = pair && op->owns && u->spl->plain;
	if (pair)
		src->plain = dst->plain;
	attach(&op->flow[0], src, dst);
	if (pair)
		attach(&op->flow[1], dst, src);
	return 0;
}

/* Lets go of the ends. */
void user_op_detach(struct user_op *op, bool close_for_good)
{
	bool pair = op->kind == SPL_OP_PAIR;
	struct user_flow *flow = &op->flow[0];
	struct user_sock *src = flow->src, *dst = flow->dst;

	if (src)
		user_sock_put(src, pair ? USER_RX | USER_TX : USER_RX, close_for_good);
	user_sock_put(dst, pair ? USER_RX | USER_TX : USER_TX, close_for_good);
}

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

static void prepare(struct user_op *op)
{
	unsigned int i;

	for (i = 0; i < op->flows; i++)
		user_sock_prepare(op->flow[i].src, op->flow[i].dst, op->peek);
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
	user_op_fail(u, op, flow->src ? flow->src : flow->dst, -r);
	return 0;
}

/* The ends are attached. On failure nothing has been moved, and the caller gives the ends back. */
int user_op_begin(struct user *u, struct user_op *op)
{
	struct user_flow *flow = &op->flow[0];
	bool connecting = flow->dst->connecting;
	bool known = flow->dst->held || (flow->src && flow->src->held);
	int r = op->owns || connecting ? hold(op) : 0;

	if (!r) {
		op->phase = connecting ? USER_CONNECTING : USER_RUNNING;
		if (!connecting)
			prepare(op);
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
void user_op_connected(struct user *u, struct user_op *op)
{
	struct user_flow *flow = &op->flow[0];
	int error;

	if (op->phase != USER_CONNECTING)
		return;
	error = user_sock_connected(flow->dst);
	if (error == -EINPROGRESS)
		return;
	if (error) {
		user_op_fail(u, op, flow->dst, error);
		return;
	}
	flow->dst->connecting = false;
	op->phase = USER_RUNNING;
	prepare(op);
	queue_flows(u, op);
}

/* epoll says that the source broke; one whose sink is not connected yet is not read, which would tell. */
void user_op_source_broke(struct user *u, struct user_flow *flow)
{
	struct user_op *op = flow->op;
	int error = op->phase == USER_CONNECTING && flow == &op->flow[0] ? user_sock_error(flow->src) : 0;

	if (error)
		user_op_fail(u, op, flow->src, error);
}

/* ---- the end */

/* All that was taken from the source is delivered, and no more will come. A pair lives on until the other way is over. */
void user_op_eof(struct user *u, struct user_flow *flow)
{
	struct user_op *op = flow->op;
	int error = 0;

	if (op->owns || (op->flags & SPL_F_SHUTDOWN)) {
		error = user_sock_shutdown(flow->dst);
		flow->shut = true;
	}
	if (error) {
		user_op_fail(u, op, flow->dst, error == ENOTCONN ? EPIPE : error);
		return;
	}
	flow->over = true;
	flow->stalled = SPL_WANTS_NOTHING;
	if (op->flow[0].over && op->flow[op->flows - 1].over)
		user_op_finish(u, op, SPL_EOF);
}

static uint32_t unacked(const struct user_op *op)
{
	const struct user_flow *there = &op->flow[0], *back = &op->flow[op->flows - 1];
	uint32_t n = user_sock_unacked(there->dst, there->shut);

	return back == there ? n : n + user_sock_unacked(back->dst, back->shut);
}

static void drain(struct user *u, struct user_op *op)
{
	if (!(op->flags & SPL_F_DRAIN) || !unacked(op)) {
		user_op_end(u, op, op->cause, 0);
		return;
	}
	op->phase = USER_DRAINING;
	op->drain_ms = op->drain_ms ? op->drain_ms * 2 : DRAIN_FIRST_MS;
	if (op->drain_ms > DRAIN_MOST_MS)
		op->drain_ms = DRAIN_MOST_MS;
	user_timer_set(u, op, u->now + op->drain_ms);
}

/* DONE, DELIM or EOF: what follows the last byte follows now. */
void user_op_finish(struct user *u, struct user_op *op, enum spl_cause cause)
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
void user_op_suffixed(struct user *u, struct user_op *op)
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
void user_op_fail(struct user *u, struct user_op *op, const struct user_sock *end, int error)
{
	user_op_end(u, op, end == op->flow[0].src ? SPL_SOURCE_FAILED : SPL_SINK_FAILED, error);
}

/* A refused connection leaves a source that the caller still has for the next attempt. */
static bool resets(const struct user_op *op, enum spl_cause cause)
{
	if (cause == SPL_REVOKED)
		return true;
	if (!op->owns || (cause != SPL_SOURCE_FAILED && cause != SPL_SINK_FAILED))
		return false;
	return op->phase != USER_CONNECTING || !(op->flags & SPL_F_KEEP);
}

static void reset(struct user_op *op)
{
	if (op->flow[0].src)
		user_sock_reset(op->flow[0].src);
	user_sock_reset(op->flow[0].dst);
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

/* By any cause, at once. The ends are free when this returns; the event comes with the next collection. */
void user_op_end(struct user *u, struct user_op *op, enum spl_cause cause, int error)
{
	bool resetting = resets(op, cause);
	unsigned int i;

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
	user_timer_stop(u, op);
	for (i = 0; i < op->flows; i++)
		release_flow(u, &op->flow[i], op->flows == 1 ? &op->public->residue : NULL);
	if (resetting)
		reset(op);
	user_op_detach(op, op->owns && !op->handed_back && !(op->flags & SPL_F_KEEP));
	op->phase = USER_ENDED;
	TAILQ_INSERT_TAIL(&u->done, op, done);
}

/* In a child: its copies of the memory and of the descriptors go, the files and what is in the pipes are the parent's. */
void user_op_disown(struct user *u, struct user_op *op)
{
	bool pair = op->kind == SPL_OP_PAIR;
	unsigned int i;

	for (i = 0; i < op->flows; i++) {
		user_flow_unqueue(u, &op->flow[i]);
		if (op->flow[i].pipe)
			user_pipe_put(u, op->flow[i].pipe);
		free(op->flow[i].out);
		op->flow[i].out = NULL;
	}
	if (op->flow[0].src)
		user_sock_forget(op->flow[0].src, pair ? USER_RX | USER_TX : USER_RX);
	user_sock_forget(op->flow[0].dst, pair ? USER_RX | USER_TX : USER_TX);
	op->public->priv = NULL;
	user_op_free(u, op);
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
	user_op_fail(u, flow->op, flow->dst, error);
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
		user_op_end(u, op, SPL_IDLE, 0);
	else
		drain(u, op);
}

/* Its timer has come. */
void user_op_timed(struct user *u, struct user_op *op)
{
	uint64_t due = op->moved + op->idle_ms;

	if (op->phase == USER_DRAINING)
		look_at_drain(u, op);
	else if (op->flow[0].queued || op->flow[op->flows - 1].queued)
		user_timer_set(u, op, u->now + 1);
	else if (due <= u->now)
		user_op_end(u, op, SPL_IDLE, 0);
	else
		user_timer_set(u, op, due);
}
