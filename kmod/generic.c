// SPDX-License-Identifier: GPL-2.0
/*
 * The generic way: every pair of ends that is not plain TCP to plain TCP. The same contract, kept by
 * other means. A run looks at the source's next bytes, sends them, and takes from the source as many
 * as the sink accepted, by the calls of the sockets' families, which sleep: so runs are the worker's
 * alone, and what the slocks of both sockets are to the fast way, the operation's mutex is here. No
 * byte is held between runs.
 *
 * These calls take lock_sock(), which a user with a page fault that is never served can hold for
 * ever: a worker that waits there is lost. So each user has but a few of them, and nobody else waits
 * for one: teardown only tries the mutex.
 */
#include <linux/cred.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/slab.h>
#include <net/tcp.h>

#include "sksplice.h"

/* Looked at in one step; memory of the run, given back at its end. */
#define SKSPLICE_GENERIC_BUF SZ_64K
#define SKSPLICE_GENERIC_BUDGET SZ_512K
#define SKSPLICE_GENERIC_ROUNDS 24

/* Context: process, not yet attached, by who begins the operation. */
int sksplice_generic_new(struct sksplice_op *op)
{
	struct sksplice_generic *g = kzalloc(sizeof(*g), GFP_KERNEL_ACCOUNT);
	int i;

	if (!g)
		return -ENOMEM;
	mutex_init(&g->mutex);
	g->tgid = get_pid(task_tgid(current));
	g->uid = current_uid();
	g->gid = current_gid();
	for (i = 0; i < op->nr_flows; i++) {
		INIT_LIST_HEAD(&g->turn[i].node);
		g->turn[i].flow = &op->flow[i];
	}
	op->generic = g;
	return 0;
}

struct sksplice_turn *sksplice_generic_turn(const struct sksplice_flow *flow)
{
	return &flow->op->generic->turn[flow->back];
}

/* Context: process, phase three of teardown: no run is left, and no turn is waited for. */
void sksplice_generic_free(struct sksplice_op *op)
{
	struct sksplice_generic *g = op->generic;

	if (!g)
		return;
	op->generic = NULL;
	put_pid(g->tgid);
	mutex_destroy(&g->mutex);
	kfree(g);
}

static enum sksplice_verdict sksplice_generic_fail(struct sksplice_flow *flow, bool source, int err)
{
	sksplice_flow_fail(flow, source, err);
	return SKSPLICE_STOPPED;
}

/*
 * Mutex held. Has somebody else used this end of the flow, or swapped the calls that we put in his
 * way? Of plain TCP the sequence numbers tell, elsewhere nothing does.
 */
static bool sksplice_generic_intruded(struct sksplice_flow *flow, bool source)
{
	const struct sksplice_sock *ss = source ? flow->src : flow->dst;
	bool intruded;

	local_bh_disable();
	bh_lock_sock(ss->sk);
	if (!ss->proto->callbacks)
		intruded = !sksplice_end_intact(ss);
	else
		intruded = source ? sksplice_tcp_source_intruded(flow) :
			   sksplice_tcp_sink_intruded(flow);
	bh_unlock_sock(ss->sk);
	local_bh_enable();
	if (source && READ_ONCE(ss->sk->sk_peek_off) >= 0)
		intruded = true;
	if (intruded)
		sksplice_count(intruded);
	return intruded;
}

/* Mutex held. GO: the sink may be written to, or it has failed. */
enum sksplice_verdict sksplice_generic_sink_ready(struct sksplice_flow *flow)
{
	int err = sksplice_proto_sink_broken(flow->dst);

	sksplice_assert_run(flow);
	if (err)
		return sksplice_generic_fail(flow, false, err);
	if (sksplice_generic_intruded(flow, false))
		return sksplice_generic_fail(flow, false, EBUSY);
	return SKSPLICE_GO;
}

/* Mutex held. GO: bytes may be moved, or it has failed. */
enum sksplice_verdict sksplice_generic_ready(struct sksplice_flow *flow)
{
	enum sksplice_verdict v = sksplice_generic_sink_ready(flow);

	if (v == SKSPLICE_GO && sksplice_generic_intruded(flow, true))
		return sksplice_generic_fail(flow, true, EBUSY);
	return v;
}

/* Mutex held. Takes from the source what the sink accepted. */
static int sksplice_generic_consume(struct sksplice_flow *flow, size_t sent)
{
	struct tcp_sock *tp = flow->src->proto->callbacks ? tcp_sk(sksplice_src(flow)) : NULL;
	bool urgent = tp && READ_ONCE(tp->urg_data);
	int ret = sksplice_proto_consume(flow->src, sent);

	/* reading steps over an urgent byte */
	if (tp)
		flow->copied_seq = urgent ? READ_ONCE(tp->copied_seq) : flow->copied_seq + sent;
	return ret;
}

/*
 * Mutex held. TCP calls when there is room if SOCK_NOSPACE is set, which who takes less than all of
 * what he is given does not always do. GO: there is room by now.
 */
static enum sksplice_verdict sksplice_generic_full(struct sksplice_flow *flow)
{
	struct sock *sk = sksplice_dst(flow);

	if (!flow->dst->proto->tcp)
		return SKSPLICE_FULL;
	set_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
	smp_mb__after_atomic();	/* as in poll: room that was made before is seen */
	return sk_stream_is_writeable(sk) ? SKSPLICE_GO : SKSPLICE_FULL;
}

/*
 * Mutex held. As sksplice_tcp_sent(): does the run go on? Who takes less than it was given has no
 * room, and calls when it has; TCP also when it has no memory, and then nothing may be under way
 * whose acknowledgment would make it call.
 */
enum sksplice_verdict sksplice_generic_sent(struct sksplice_flow *flow, ssize_t sent, size_t len)
{
	bool tcp = flow->dst->proto->tcp;
	int err;

	sksplice_assert_run(flow);
	if (sent > 0 && flow->dst->proto->callbacks)
		WRITE_ONCE(flow->write_seq, flow->write_seq + (u32)sent);
	if (sent == (ssize_t)len)
		return SKSPLICE_GO;
	if (tcp && sk_stream_is_writeable(sksplice_dst(flow))) {
		if (sent > 0)
			return SKSPLICE_GO;
		if (sent == -EAGAIN)
			sent = -ENOMEM;
	}
	if (sent > 0 || sent == -EAGAIN)
		return sksplice_generic_full(flow);
	if (!sent || sent == -ENOMEM || sent == -ENOBUFS) {
		sksplice_count(nomem);
		return SKSPLICE_NOMEM;
	}
	err = sksplice_tcp_error(flow->dst);
	return sksplice_generic_fail(flow, false, err ? : -sent);
}

/* Mutex held. Of this flow's sink: has it let go of all that it accepted, else it will call. */
static bool sksplice_generic_let_go(struct sksplice_flow *flow)
{
	if (sksplice_proto_settled(flow->dst))
		return true;
	set_bit(SOCK_NOSPACE, &sksplice_dst(flow)->sk_socket->flags);
	smp_mb__after_atomic();	/* as in poll: what was acknowledged before is seen */
	return sksplice_proto_settled(flow->dst);
}

/*
 * Mutex held. All is sent. GO: nothing that the sinks accepted is lost when they are closed now.
 * Else no more is moved, also the other way, until it is so.
 */
enum sksplice_verdict sksplice_generic_settle(struct sksplice_flow *flow)
{
	struct sksplice_op *op = flow->op;
	int i;

	if (!op->generic || !sksplice_op_closes(op))
		return SKSPLICE_GO;
	op->generic->last = flow;
	if (!sksplice_generic_let_go(flow))
		return SKSPLICE_FULL;
	for (i = 0; i < op->nr_flows; i++)
		if (!sksplice_proto_settled(op->flow[i].dst))
			return SKSPLICE_MISSED;
	return SKSPLICE_GO;
}

/* Mutex held. The last byte has moved. */
static enum sksplice_verdict sksplice_generic_done(struct sksplice_flow *flow,
						   enum sksplice_cause cause)
{
	enum sksplice_verdict v = sksplice_generic_settle(flow);

	return v == SKSPLICE_GO ? sksplice_flow_done(flow, cause) : v;
}

/* Mutex held. The end of the stream, for the sink. */
static enum sksplice_verdict sksplice_generic_eof(struct sksplice_flow *flow)
{
	struct sksplice_op *op = flow->op;
	int ret = 0;

	if (sksplice_op_owns(op) || (op->flags & SKSPLICE_F_SHUTDOWN))
		ret = sksplice_proto_finish(flow);
	if (ret == -EAGAIN)
		return SKSPLICE_FULL;
	return ret ? SKSPLICE_NOMEM : sksplice_flow_eof(flow);
}

/* Mutex held. Nothing to read: over, failed, or just empty? GO: over, and something follows. */
static enum sksplice_verdict sksplice_generic_dry(struct sksplice_flow *flow, ssize_t got)
{
	int err = got == -EAGAIN ? 0 : -got;

	if (got == -ENOMEM || got == -ENOBUFS)
		return SKSPLICE_NOMEM;
	if (!err)
		err = sksplice_proto_source_broken(flow->src);
	if (err)
		return sksplice_generic_fail(flow, true, err);
	if (got)
		return SKSPLICE_EMPTY;
	WRITE_ONCE(flow->eof, true);
	return sksplice_generic_eof(flow);
}

/*
 * Mutex held. The @got bytes are not enough for the framer. Are there more than a peek gives, and
 * if not, is something behind them that ends the stream? They stay there then. The end is asked for
 * first: then all is there. *@len: how many may be sent after all, or 0, and the run ends here.
 */
static enum sksplice_verdict sksplice_generic_short(struct sksplice_flow *flow, void *buf,
						    size_t got, size_t *len)
{
	const struct sksplice_proto *proto = flow->src->proto;
	bool ended = sksplice_proto_ended(flow->src);
	ssize_t more = proto->peek(flow, buf, SKSPLICE_FRAMER_WINDOW);
	int behind;

	if (more > (ssize_t)got) {
		enum sksplice_verdict v;

		*len = more;
		v = sksplice_framer_cut_bytes(flow, buf, len);
		if (v != SKSPLICE_GO || *len)
			return v;
	}
	if (more <= 0)
		return sksplice_generic_dry(flow, more);
	behind = proto->behind ? proto->behind(flow, buf, more) : 1;
	if (behind < 0)
		return sksplice_generic_dry(flow, behind);
	if (!ended && behind)
		return sksplice_generic_dry(flow, -EAGAIN);
	behind = sksplice_proto_source_broken(flow->src);
	return behind ? sksplice_generic_fail(flow, true, behind) : sksplice_generic_eof(flow);
}

/* Mutex held. How many of @got bytes that were looked at may be sent: *@len, as above. */
static enum sksplice_verdict sksplice_generic_cut(struct sksplice_flow *flow, void *buf, size_t got,
						  size_t *len)
{
	enum sksplice_verdict v;

	*len = got;
	if (likely(!flow->extra))
		return SKSPLICE_GO;
	v = sksplice_framer_cut_bytes(flow, buf, len);
	return v == SKSPLICE_GO && !*len ? sksplice_generic_short(flow, buf, got, len) : v;
}

/* Mutex held. How many bytes to look at: a framer must see what it may, however few are to move. */
static size_t sksplice_generic_max(const struct sksplice_flow *flow, size_t budget)
{
	bool framed = unlikely(flow->extra) && flow->extra->framer;

	return max_t(u64, min3((u64)SKSPLICE_GENERIC_BUF, (u64)budget, flow->left),
		     framed ? SKSPLICE_FRAMER_WINDOW : 0);
}

/* Mutex held. @got bytes are in @buf, and in the source, and may be sent. GO: there may be more. */
static enum sksplice_verdict sksplice_generic_step(struct sksplice_flow *flow, const void *buf,
						   size_t got, size_t *budget)
{
	size_t len = unlikely(flow->extra) ? sksplice_delim_find(flow->extra, buf, got) : got;
	ssize_t sent = sksplice_proto_send(flow, buf, len);
	int err;

	if (sent <= 0)
		return sksplice_generic_sent(flow, sent, len);
	if (unlikely(flow->extra))
		sksplice_delim_took(flow->extra, buf, sent, len);
	*budget -= min_t(size_t, *budget, sent);
	sksplice_flow_moved(flow, sent);
	if (unlikely(flow->extra))
		sksplice_framer_passed(flow, sent);
	err = sksplice_generic_consume(flow, sent);
	if (err)
		return sksplice_generic_fail(flow, true, -err);
	return sksplice_generic_sent(flow, sent, len);
}

/* Mutex held. Has it moved all that it is to? */
static bool sksplice_generic_complete(const struct sksplice_flow *flow)
{
	return !flow->left || sksplice_delim_met(flow->extra);
}

/* Mutex held. As sksplice_generic_move(). GO: all has moved, or the source's end was passed on. */
static enum sksplice_verdict sksplice_generic_loop(struct sksplice_flow *flow, void *buf,
						   size_t budget)
{
	int rounds = SKSPLICE_GENERIC_ROUNDS;
	enum sksplice_verdict v;

	while (budget && rounds--) {
		size_t max = sksplice_generic_max(flow, budget), len = 0;
		ssize_t got;

		if (READ_ONCE(flow->op->ending))
			return SKSPLICE_STOPPED;
		got = flow->src->proto->peek(flow, buf, max);
		v = got > 0 ? sksplice_generic_cut(flow, buf, got, &len) :
			      sksplice_generic_dry(flow, got);
		if (!len)
			return v;
		v = sksplice_generic_step(flow, buf, len, &budget);
		if (v == SKSPLICE_STOPPED)
			return v;
		if (sksplice_generic_complete(flow))
			return sksplice_generic_done(flow, flow->left ? SKSPLICE_CAUSE_DELIM :
						     SKSPLICE_CAUSE_DONE);
		if (v != SKSPLICE_GO)
			return v;
	}
	return SKSPLICE_MORE;
}

/* Mutex held, and ready: the generic counterpart of sksplice_tcp_move(). */
enum sksplice_verdict sksplice_generic_move(struct sksplice_flow *flow, size_t budget)
{
	const struct sksplice_flow *last = flow->op->generic->last;
	enum sksplice_verdict v;
	void *buf;

	sksplice_assert_run(flow);
	if (last && last != flow)
		return SKSPLICE_EMPTY;
	if (sksplice_generic_complete(flow))
		return sksplice_generic_done(flow, flow->left ? SKSPLICE_CAUSE_DELIM :
					     SKSPLICE_CAUSE_DONE);
	buf = kvmalloc(SKSPLICE_GENERIC_BUF, GFP_KERNEL);
	if (!buf)
		return SKSPLICE_NOMEM;
	v = sksplice_generic_loop(flow, buf, budget);
	kvfree(buf);
	return v;
}

/*
 * Mutex held. The operation ends well: has the source come to its end, too? The completion tells,
 * and nobody can be asked any more when that is made.
 */
static void sksplice_generic_look(struct sksplice_flow *flow)
{
	u8 byte;

	if (!sksplice_op_sends(flow->op) && !flow->eof && !sksplice_proto_source_broken(flow->src))
		WRITE_ONCE(flow->eof, !flow->src->proto->peek(flow, &byte, 1));
}

/* Mutex held. */
static enum sksplice_verdict sksplice_generic_locked(struct sksplice_flow *flow)
{
	enum sksplice_verdict v;

	if (!sksplice_flow_live(flow) || READ_ONCE(flow->op->ending))
		return SKSPLICE_STOPPED;
	sksplice_flow_run(flow);
	if (unlikely(flow->extra)) {
		v = sksplice_extra_pump(flow, SKSPLICE_GENERIC_BUDGET, true);
	} else {
		v = sksplice_generic_ready(flow);
		if (v == SKSPLICE_GO)
			v = sksplice_generic_move(flow, SKSPLICE_GENERIC_BUDGET);
	}
	sksplice_flow_stall(flow, v);
	WRITE_ONCE(flow->runs_worker, flow->runs_worker + 1);
	sksplice_count(runs_worker);
	if (v == SKSPLICE_STOPPED && READ_ONCE(flow->op->ending))
		sksplice_generic_look(flow);
	return v;
}

/*
 * A pair's flows have one mutex; neither waits for it with a worker. False: who holds it will see
 * AGAIN when it is over.
 */
static bool sksplice_generic_trylock(struct sksplice_flow *flow)
{
	struct sksplice_generic *g = flow->op->generic;

	if (!mutex_trylock(&g->mutex)) {
		set_bit(SKSPLICE_RUN_AGAIN, &flow->run);
		smp_mb__after_atomic();	/* either it sees the bit, or we get the mutex */
		if (!mutex_trylock(&g->mutex))
			return false;
	}
	clear_bit(SKSPLICE_RUN_AGAIN, &flow->run);
	WRITE_ONCE(g->worker, current);
	return true;
}

static void sksplice_generic_unlock(struct sksplice_op *op)
{
	int i;

	WRITE_ONCE(op->generic->worker, NULL);
	mutex_unlock(&op->generic->mutex);
	smp_mb();	/* pairs with the one in trylock */
	for (i = 0; i < op->nr_flows; i++)
		if (test_and_clear_bit(SKSPLICE_RUN_AGAIN, &op->flow[i].run))
			sksplice_pump_kick(&op->flow[i]);
}

/*
 * Context: the flow's work, before the operation has canceled that. *@spent: to be freed. EMPTY: also
 * when it could not run now, and will be kicked when it can.
 */
enum sksplice_verdict sksplice_generic_run(struct sksplice_flow *flow, void **spent)
{
	enum sksplice_verdict v = SKSPLICE_EMPTY;

	if (!sksplice_generic_trylock(flow))
		return v;
	if (sksplice_flow_live(flow) && sksplice_user_enter(flow)) {
		v = sksplice_generic_locked(flow);
		*spent = sksplice_extra_spent(flow);
		sksplice_user_leave(flow);
	}
	sksplice_generic_unlock(flow->op);
	return v;
}

/*
 * Context: phase one of teardown, before an end is given back: a run may be between a send and what
 * it must take from the source for it. False: there is one, try again later. Afterwards none begins.
 */
bool sksplice_generic_stop(struct sksplice_op *op)
{
	int i;

	if (!op->generic)
		return true;
	if (!mutex_trylock(&op->generic->mutex))
		return false;
	for (i = 0; i < op->nr_flows; i++)
		sksplice_flow_stop(&op->flow[i]);
	mutex_unlock(&op->generic->mutex);
	return true;
}
