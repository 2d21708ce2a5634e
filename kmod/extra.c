// SPDX-License-Identifier: GPL-2.0
/*
 * Operations with more to them than moving bytes: a sink that is still connecting, bytes of their
 * own before and after, a wait for acknowledgments. All others have no sksplice_extra, and of
 * this nothing but one test in their pump.
 *
 *   CONNECTING -> RUNNING -> SUFFIX -> DRAINING    each left out where there is nothing to do
 *
 * The phase is the operation's. Each run of either flow of a pair holds the slocks of the same two
 * sockets, so one at a time looks at it and changes it; a send has one socket, and one slock; a
 * generic operation has a mutex for all this. "Both slocks held" means any of these here.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <net/tcp.h>

#include "sksplice.h"

static void sksplice_extra_enter(struct sksplice_extra *x, enum sksplice_phase phase)
{
	smp_store_release(&x->phase, phase);	/* pairs with extra_in() */
}

/* Context: any, when the operation was not yet released. A hint without the slocks. */
bool sksplice_extra_in(const struct sksplice_op *op, enum sksplice_phase phase)
{
	const struct sksplice_extra *x = op->flow[0].extra;

	return unlikely(x) && smp_load_acquire(&x->phase) == phase;
}

static bool sksplice_insert_init(struct sksplice_insert *in, size_t len)
{
	in->len = len;
	if (len)
		in->bytes = kvmalloc(len, GFP_KERNEL_ACCOUNT);
	return !len || in->bytes;
}

static bool sksplice_insert_left(const struct sksplice_insert *in)
{
	return in->off < in->len;
}

static void sksplice_extra_release(struct sksplice_extra *x)
{
	if (!x)
		return;
	kvfree(x->first.bytes);
	kvfree(x->last.bytes);
	sksplice_framer_free(x->framer);
	kfree(x);
}

/* Context: process, not yet attached. @len: of prefix, data and suffix, the first two as one. */
int sksplice_extra_new(struct sksplice_op *op, const size_t len[3])
{
	struct sksplice_extra *x = kzalloc(sizeof(*x), GFP_KERNEL_ACCOUNT);
	int i;

	if (!x)
		return -ENOMEM;
	x->phase = op->flags & SKSPLICE_F_CONNECTING ? SKSPLICE_PHASE_CONNECTING :
		   SKSPLICE_PHASE_RUNNING;
	x->uncounted = len[0];
	if (!sksplice_insert_init(&x->first, len[0] + len[1]) ||
	    !sksplice_insert_init(&x->last, len[2])) {
		sksplice_extra_release(x);
		return -ENOMEM;
	}
	for (i = 0; i < op->nr_flows; i++)
		op->flow[i].extra = x;
	return 0;
}

/* What an operation counts as: one, and one for each 4 KiB it has to keep. */
unsigned int sksplice_extra_units(const struct sksplice_op *op)
{
	const struct sksplice_extra *x = op->flow[0].extra;

	return 1 + (x ? DIV_ROUND_UP(x->first.len + x->last.len, SZ_4K) : 0);
}

/* Context: process, phase three of teardown: no run of a flow is left that could look at it. */
void sksplice_extra_free(struct sksplice_op *op)
{
	struct sksplice_extra *x = op->flow[0].extra;
	int i;

	for (i = 0; i < op->nr_flows; i++)
		op->flow[i].extra = NULL;
	sksplice_extra_release(x);
	/* the rest is the completion's */
	if (op->units > 1) {
		sksplice_user_uncharge(op->user, op->units - 1);
		op->units = 1;
	}
}

/*
 * The sink's slock held, its half just taken, not begun: nobody else looks at the phase. A sink
 * that need not be waited for has told its sequence numbers already, and they are watched from
 * now on.
 */
void sksplice_extra_attached(struct sksplice_flow *flow)
{
	sksplice_assert_slock(sksplice_dst(flow));
	if (!flow->extra || flow->back)
		return;
	if (!sksplice_tcp_connecting(sksplice_dst(flow)))
		flow->extra->phase = SKSPLICE_PHASE_RUNNING;
	flow->extra->fresh = sksplice_dst(flow)->sk_state == TCP_SYN_SENT;
}

/*
 * Both slocks held. Where the stream from a socket that was just connected begins. False: not now,
 * somebody owns the socket, of which a generic run does not hold the slock.
 */
static bool sksplice_extra_begins(struct sksplice_flow *back)
{
	struct sock *sk = sksplice_src(back);
	const struct tcp_sock *tp = tcp_sk(sk);

	if (!back->src->proto->tcp)
		return true;
	if (back->op->generic && !sksplice_sock_trylock(sk))
		return false;
	back->copied_seq = tp->rcv_nxt - (u32)tp->bytes_received;
	if (back->op->generic)
		sksplice_sock_unlock(sk);
	return true;
}

/*
 * Both slocks held. TCP has called state_change once the sink was connected, error_report when it
 * was refused; both kick. Until then the source is not read, but may fail. Where the sink's stream
 * begins is not known before the SYN-ACK: not where it is now read, as a thread that was on its
 * way into recv() before we came may have read from it. The one to it began with the SYN.
 */
static enum sksplice_verdict sksplice_extra_connect(struct sksplice_op *op)
{
	struct sksplice_flow *there = &op->flow[0], *back = &op->flow[op->nr_flows - 1];
	struct sock *sink = sksplice_dst(there);
	int err = sksplice_tcp_error(there->dst);

	sksplice_assert_run(there);
	if (err || READ_ONCE(sink->sk_state) == TCP_CLOSE) {
		sksplice_flow_fail(there, false, err ? : ECONNREFUSED);
		return SKSPLICE_STOPPED;
	}
	err = sksplice_proto_source_broken(there->src);
	if (err) {
		sksplice_flow_fail(there, true, err);
		return SKSPLICE_STOPPED;
	}
	if (sksplice_tcp_connecting(sink))
		return SKSPLICE_FULL;
	if (back != there && there->extra->fresh && !sksplice_extra_begins(back))
		return SKSPLICE_MISSED;
	sksplice_extra_enter(there->extra, SKSPLICE_PHASE_RUNNING);
	return SKSPLICE_GO;
}

/* Both slocks held. The sink accepted @sent bytes of @in: those of a send count. */
static void sksplice_extra_accept(struct sksplice_flow *flow, struct sksplice_insert *in,
				  size_t sent)
{
	struct sksplice_extra *x = flow->extra;
	size_t from = max(in->off, x->uncounted), to = in->off + sent;

	in->off = to;
	if (!flow->op->generic)
		WRITE_ONCE(flow->write_seq, tcp_sk(sksplice_dst(flow))->write_seq);
	sksplice_flow_moved(flow, in == &x->first && to > from ? to - from : 0);
}

static ssize_t sksplice_extra_put(struct sksplice_flow *flow, const void *bytes, size_t len)
{
	return flow->op->generic ? sksplice_proto_send(flow, bytes, len) :
	       sksplice_tcp_send_bytes(sksplice_dst(flow), bytes, len);
}

/* Both slocks held, the sink ready. GO: all of it is sent. */
static enum sksplice_verdict sksplice_extra_send(struct sksplice_flow *flow,
						 struct sksplice_insert *in, size_t *budget)
{
	enum sksplice_verdict v = SKSPLICE_GO;

	while (v == SKSPLICE_GO && sksplice_insert_left(in)) {
		size_t len = min(in->len - in->off, *budget);
		ssize_t sent;

		if (!len)
			return SKSPLICE_MORE;
		sent = sksplice_extra_put(flow, in->bytes + in->off, len);
		if (sent > 0) {
			*budget -= sent;
			sksplice_extra_accept(flow, in, sent);
		}
		v = flow->op->generic ? sksplice_generic_sent(flow, sent, len) :
		    sksplice_tcp_sent(flow, sent, len);
	}
	return v;
}

static enum sksplice_verdict sksplice_extra_sink_ready(struct sksplice_flow *flow)
{
	return flow->op->generic ? sksplice_generic_sink_ready(flow) : sksplice_tcp_sink_ready(flow);
}

static enum sksplice_verdict sksplice_extra_ready(struct sksplice_flow *flow)
{
	if (sksplice_op_sends(flow->op))
		return sksplice_extra_sink_ready(flow);
	return flow->op->generic ? sksplice_generic_ready(flow) : sksplice_tcp_ready(flow);
}

/* Both slocks held. A send leaves the readable half of its socket alone. */
static enum sksplice_verdict sksplice_extra_move(struct sksplice_flow *flow, size_t *budget,
						 bool worker)
{
	enum sksplice_verdict v = sksplice_extra_ready(flow);

	if (v == SKSPLICE_GO && !flow->back)
		v = sksplice_extra_send(flow, &flow->extra->first, budget);
	if (v != SKSPLICE_GO)
		return v;
	if (sksplice_op_sends(flow->op))
		return sksplice_extra_finish(flow, SKSPLICE_CAUSE_DONE);
	if (flow->op->generic)
		return sksplice_generic_move(flow, *budget);
	return sksplice_tcp_move(flow, *budget, worker);
}

/*
 * Both slocks held. What has been sent first, once all of it is, for the caller to free without
 * them: an operation may live for long after its prefix.
 */
void *sksplice_extra_spent(struct sksplice_flow *flow)
{
	struct sksplice_extra *x = flow->extra;
	void *spent;

	if (likely(!x) || sksplice_insert_left(&x->first))
		return NULL;
	spent = x->first.bytes;
	x->first.bytes = NULL;
	return spent;
}

/* What the peers of all sinks have not acknowledged. */
static u32 sksplice_extra_unacked(const struct sksplice_op *op)
{
	u32 sum = 0;
	int i;

	for (i = 0; i < op->nr_flows; i++)
		sum += sksplice_proto_unacked(&op->flow[i]);
	return sum;
}

/* Both slocks held. All is sent. */
static enum sksplice_verdict sksplice_extra_drain(struct sksplice_flow *flow)
{
	enum sksplice_verdict v = sksplice_generic_settle(flow);

	if (v != SKSPLICE_GO)
		return v;
	if (!(flow->op->flags & SKSPLICE_F_DRAIN))
		return sksplice_flow_end(flow, flow->extra->cause);
	flow->extra->owed = sksplice_extra_unacked(flow->op);
	sksplice_extra_enter(flow->extra, SKSPLICE_PHASE_DRAINING);
	sksplice_flow_drain(flow);
	return SKSPLICE_GO;
}

/*
 * Context: the operation's own work, before teardown: both sockets are there. Does it drain, and
 * has something been acknowledged since the last time it was asked? Read without the slocks: what
 * is missed now is found the next time.
 */
bool sksplice_extra_drains(struct sksplice_op *op)
{
	struct sksplice_extra *x = op->flow[0].extra;
	u32 owed;

	if (!sksplice_extra_in(op, SKSPLICE_PHASE_DRAINING))
		return false;
	owed = sksplice_extra_unacked(op);
	if (owed == x->owed)
		return false;
	x->owed = owed;
	return true;
}

/*
 * Both slocks held. No byte of a source will move any more. GO: something comes after them. What
 * is to be sent is the first flow's: it goes there when the other one of a pair was the first to
 * reach the limit, perhaps before the prefix had found room, unless the end of the stream has
 * gone there before it. And none when the operation was cancelled meanwhile: its event says so.
 */
enum sksplice_verdict sksplice_extra_finish(struct sksplice_flow *flow, enum sksplice_cause cause)
{
	struct sksplice_flow *first = &flow->op->flow[0];
	struct sksplice_extra *x = flow->extra;

	sksplice_assert_run(flow);
	if (READ_ONCE(flow->op->ending))
		return sksplice_flow_end(flow, cause);
	x->cause = cause;
	if (cause == SKSPLICE_CAUSE_EOF || !sksplice_flow_live(first) ||
	    (!sksplice_insert_left(&x->first) && !sksplice_insert_left(&x->last)))
		return sksplice_extra_drain(flow);
	sksplice_extra_enter(x, SKSPLICE_PHASE_SUFFIX);
	if (flow != first)
		sksplice_pump_kick(first);
	return SKSPLICE_GO;
}

/* Both slocks held. Nothing else moves any more, in neither direction. */
static enum sksplice_verdict sksplice_extra_suffix(struct sksplice_flow *flow, size_t *budget)
{
	enum sksplice_verdict v;

	if (flow->back)
		return SKSPLICE_EMPTY;
	if (READ_ONCE(flow->op->ending))
		return SKSPLICE_STOPPED;
	v = sksplice_extra_sink_ready(flow);
	if (v == SKSPLICE_GO)
		v = sksplice_extra_send(flow, &flow->extra->first, budget);
	if (v == SKSPLICE_GO)
		v = sksplice_extra_send(flow, &flow->extra->last, budget);
	return v == SKSPLICE_GO ? sksplice_extra_drain(flow) : v;
}

/*
 * Both slocks held. Does @flow's sink still owe acknowledgments? Then TCP calls write_space at the
 * next one, since SOCK_NOSPACE is set: before it is looked at again, as poll does, so that none is
 * missed in between. Empty queues always are writeable, so the last acknowledgment gets through to
 * the flow, which is BLOCKED, or about to be.
 */
static bool sksplice_extra_owed(const struct sksplice_flow *flow)
{
	if (!sksplice_proto_unacked(flow))
		return false;
	set_bit(SOCK_NOSPACE, &sksplice_dst(flow)->sk_socket->flags);
	smp_mb__after_atomic();
	return sksplice_proto_unacked(flow);
}

/* Both slocks held. What a sink that is over has not acknowledged it never will. */
static enum sksplice_verdict sksplice_extra_drained(struct sksplice_flow *flow)
{
	struct sksplice_op *op = flow->op;
	bool owed = false;
	int i;

	for (i = 0; i < op->nr_flows; i++) {
		struct sksplice_flow *f = &op->flow[i];
		int err = sksplice_tcp_error(f->dst);

		if (!sksplice_extra_owed(f))
			continue;
		if (err || sksplice_dst(f)->sk_state == TCP_CLOSE) {
			sksplice_flow_fail(f, false, err ? : ECONNRESET);
			return SKSPLICE_STOPPED;
		}
		owed = true;
	}
	return owed ? SKSPLICE_FULL : sksplice_flow_end(flow, flow->extra->cause);
}

static enum sksplice_verdict sksplice_extra_step(struct sksplice_flow *flow, size_t *budget,
						 bool worker)
{
	switch (flow->extra->phase) {
	case SKSPLICE_PHASE_CONNECTING:
		return sksplice_extra_connect(flow->op);
	case SKSPLICE_PHASE_RUNNING:
		return sksplice_extra_move(flow, budget, worker);
	case SKSPLICE_PHASE_SUFFIX:
		return sksplice_extra_suffix(flow, budget);
	case SKSPLICE_PHASE_DRAINING:
		return sksplice_extra_drained(flow);
	}
	return SKSPLICE_STOPPED;
}

/* The pump, as sksplice_tcp_pump(). Each step that says GO has entered another phase. */
enum sksplice_verdict sksplice_extra_pump(struct sksplice_flow *flow, size_t budget, bool worker)
{
	enum sksplice_verdict v;

	sksplice_assert_run(flow);
	do
		v = sksplice_extra_step(flow, &budget, worker);
	while (v == SKSPLICE_GO);
	return v;
}
