// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* An operation: made of a request, and the ends that it has. What becomes of it is in user_phase.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "user.h"

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
	if (op->record)
		u->book->remove(u, op);
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
int user_op_take_end(struct user *u, int fd, unsigned int halves, unsigned int how, struct user_sock **out)
{
	int r = user_busy_take(u, fd, halves, out);

	u->asked_for = fd;
	if (r)
		return r;
	(*out)->plain = how & USER_PLAIN;
	r = user_sock_admit(*out, halves, how);
	if (r) {
		user_sock_put(*out, halves, false);
		*out = NULL;
	}
	return r;
}

/* What TCP has not been given yet is waited for with a timer, before the sink is shut down or closed. */
static int reserve_for_tls(struct user *u, struct user_op *op, const struct user_sock *a, const struct user_sock *b)
{
	int r;

	if (op->timed || !((a && a->tls) || b->tls))
		return 0;
	r = user_timer_reserve(u);
	op->timed = !r;
	return r ? spl_refuse(u->spl, r, NULL) : 0;
}

/* Takes the ends, or none. */
int user_op_attach(struct user *u, struct user_op *op, const struct spl_request *req)
{
	bool pair = req->kind == SPL_OP_PAIR;
	unsigned int plain = pair && op->owns && u->spl->plain ? USER_PLAIN : 0;
	unsigned int may_connect = req->opts.flags & SPL_F_CONNECTING ? USER_MAY_CONNECT : 0;
	unsigned int rx = pair ? USER_RX | USER_TX : USER_RX, tx = pair ? USER_RX | USER_TX : USER_TX;
	struct user_sock *src = NULL, *dst = NULL;
	int r = 0;

	if (req->kind != SPL_OP_SEND)
		r = user_op_take_end(u, req->source, rx, plain, &src);
	if (r)
		return user_busy_check_file(u, req->sink, r);
	r = user_op_take_end(u, req->sink, tx, plain | may_connect, &dst);
	if (r == -EBUSY && pair && user_busy_same(src, req->sink))
		r = spl_refuse(u->spl, -EINVAL, "a pair takes two sockets, not the same one twice");
	if (!r && src)
		r = user_sock_mirror(u, src, dst);
	if (!r)
		r = reserve_for_tls(u, op, src, dst);
	if (r) {
		if (dst)
			user_sock_put(dst, tx, false);
		if (src)
			user_sock_put(src, rx, false);
		return r;
	}
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

/* In a child: its copies of the memory and of the descriptors go, the files and what is in the pipes are the parent's. */
void user_op_disown(struct user *u, struct user_op *op)
{
	bool pair = op->kind == SPL_OP_PAIR;
	unsigned int i;

	for (i = 0; i < op->flows; i++) {
		user_flow_unqueue(u, &op->flow[i]);
		if (op->flow[i].kernel)
			u->mover->drop(u, &op->flow[i], true);
		if (op->flow[i].pipe)
			user_pipe_put(u, op->flow[i].pipe);
		free(op->flow[i].out);
		op->flow[i].out = NULL;
	}
	if (op->flow[0].src)
		user_sock_forget(op->flow[0].src, pair ? USER_RX | USER_TX : USER_RX);
	user_sock_forget(op->flow[0].dst, pair ? USER_RX | USER_TX : USER_TX);
	if (op->public)
		op->public->priv = NULL;
	user_op_free(u, op);
}
