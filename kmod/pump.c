// SPDX-License-Identifier: GPL-2.0
/*
 * Two ways to run the one pump.
 *
 * Inline, in the receive softirq: no wake-up, no switch, the cheapest for messages. The worker: the
 * place for whatever inline must not do; of streams that have shown to be some it is a runner, which batches.
 *
 * Which one is decided by what was observed. A source on which we wrote something since the last
 * run is in a conversation: message-like. STREAK arrivals in a row without a word back is a
 * stream: arrivals then only kick the worker, which finds the more to move the busier it is.
 * Worker runs that find a single message each wear the streak off again.
 */
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/workqueue.h>
#include <net/tcp.h>

#include "sksplice.h"

#define SKSPLICE_STREAK		8		/* arrivals without a reply: a stream */
#define SKSPLICE_STREAK_MAX	16		/* how long a stream is remembered, in poor runs */
#define SKSPLICE_STREAK_REPLY	4		/* what a reply takes off: bulk has acknowledgments too */
#define SKSPLICE_POOR_RUN	4096		/* bytes; a worker run that moved less did not batch */
#define SKSPLICE_BUDGET_INLINE	(64 << 10)
#define SKSPLICE_BUDGET_WORKER	(256 << 10)
#define SKSPLICE_RETRY_NOW	4		/* misses that are retried at once */
#define SKSPLICE_RETRY_STEPS	4		/* then 1, 2, 4, 8, 16 ms */

/* TCP sends from inside our send; that must not recurse into another flow's pump. */
static DEFINE_PER_CPU(int, sksplice_pump_depth);

/* Runs that sleep are kept apart from those that do not. */
static struct workqueue_struct *sksplice_pump_queue(const struct sksplice_flow *flow)
{
	return flow->op->generic ? sksplice_generic_wq : sksplice_pump_wq;
}

/* Before the worker is queued, wherever that is: phase two of teardown asks. */
static void sksplice_pump_will_queue(struct sksplice_flow *flow)
{
	if (!test_bit(SKSPLICE_RUN_QUEUED, &flow->run))
		set_bit(SKSPLICE_RUN_QUEUED, &flow->run);
}

/*
 * Any context in which the flow is attached. The worker will look at it soon; a flow that has
 * not begun or is over needs none, and its sink may not be there. A runner instead, if the last run out
 * of line has found a batch: what is only thought to be a stream may be messages without replies.
 */
void sksplice_pump_kick(struct sksplice_flow *flow)
{
	if (!sksplice_flow_live(flow) || test_and_set_bit(SKSPLICE_RUN_KICKED, &flow->run))
		return;
	if (READ_ONCE(flow->streak) == SKSPLICE_STREAK_MAX) {
		sksplice_runner_queue(flow);
		return;
	}
	sksplice_pump_will_queue(flow);
	mod_delayed_work(sksplice_pump_queue(flow), &flow->work, 0);
}

/* The same for what is no byte of the stream, and does not wait for a runner that has it already. */
void sksplice_pump_urge(struct sksplice_flow *flow)
{
	if (!sksplice_flow_live(flow))
		return;
	set_bit(SKSPLICE_RUN_KICKED, &flow->run);
	sksplice_pump_will_queue(flow);
	mod_delayed_work(sksplice_pump_queue(flow), &flow->work, 0);
}

/* Out of line. A socket was busy or memory short: at once for a while, then 1 to 16 ms later. */
static void sksplice_pump_later(struct sksplice_flow *flow, enum sksplice_verdict v)
{
	int retries = READ_ONCE(flow->retries);
	int step = retries - (v == SKSPLICE_MISSED ? SKSPLICE_RETRY_NOW : 0);

	if (retries < SKSPLICE_RETRY_NOW + SKSPLICE_RETRY_STEPS)
		WRITE_ONCE(flow->retries, retries + 1);
	if (step < 0) {
		sksplice_pump_kick(flow);
		return;
	}
	sksplice_pump_will_queue(flow);
	queue_delayed_work(sksplice_pump_queue(flow), &flow->work,
			   msecs_to_jiffies(1 << min(step, SKSPLICE_RETRY_STEPS)));
}

/* Source's slock held. Is this the Nth arrival without anything written on the same socket? */
static bool sksplice_pump_streaming(struct sksplice_flow *flow)
{
	u32 reply = tcp_sk(sksplice_src(flow))->write_seq;

	if (reply != flow->reply_seq) {
		flow->reply_seq = reply;
		WRITE_ONCE(flow->streak, flow->streak - min_t(u8, flow->streak, SKSPLICE_STREAK_REPLY));
	} else if (flow->streak < SKSPLICE_STREAK) {
		WRITE_ONCE(flow->streak, flow->streak + 1);
	}
	return flow->streak >= SKSPLICE_STREAK;
}

/*
 * Source's slock held. Does a runner have enough to do? Then the worker takes the processor from the
 * sender after all: all that his window has room for, of each stream, would be before everybody's
 * packets in the receive queue of the processor.
 */
static bool sksplice_pump_heaped(const struct sksplice_flow *flow)
{
	const struct tcp_sock *tp = tcp_sk(sksplice_src(flow));

	sksplice_assert_slock(sksplice_src(flow));
	return tp->rcv_nxt - tp->copied_seq >= SKSPLICE_BUDGET_WORKER;
}

/* Source's slock held. What a worker run tells about the flow. */
static void sksplice_pump_observe(struct sksplice_flow *flow, u64 moved, enum sksplice_verdict v)
{
	if (!moved)
		return;		/* somebody else was faster */
	if (v == SKSPLICE_EMPTY && moved < SKSPLICE_POOR_RUN)
		WRITE_ONCE(flow->streak, flow->streak > SKSPLICE_STREAK ? flow->streak - 1 : 0);
	else if (flow->streak >= SKSPLICE_STREAK)
		WRITE_ONCE(flow->streak, SKSPLICE_STREAK_MAX);
}

/* Both slocks held, neither owned. One run, in whichever way. */
static enum sksplice_verdict sksplice_pump_locked(struct sksplice_flow *flow, bool worker)
{
	u64 before = flow->bytes;
	enum sksplice_verdict v;

	/* A sink is given back before the flow is stopped when teardown comes to it first. */
	if (!sksplice_flow_live(flow) || flow->dst->tx != flow)
		return SKSPLICE_STOPPED;
	sksplice_flow_run(flow);
	v = sksplice_tcp_pump(flow, worker ? SKSPLICE_BUDGET_WORKER : SKSPLICE_BUDGET_INLINE,
			      worker);
	sksplice_flow_stall(flow, v);
	if (worker) {
		WRITE_ONCE(flow->runs_worker, flow->runs_worker + 1);
		sksplice_count(runs_worker);
		sksplice_pump_observe(flow, flow->bytes - before, v);
	} else {
		WRITE_ONCE(flow->runs_inline, flow->runs_inline + 1);
		sksplice_count(runs_inline);
	}
	return v;
}

static void sksplice_pump_missed(struct sksplice_flow *flow)
{
	WRITE_ONCE(flow->missed, flow->missed + 1);
	sksplice_count(missed);
}

/*
 * Context: sk_data_ready() of the source in softirq: its slock is held by the receive path and
 * no user owns it. The sink's is only tried: whoever holds it may be waiting for ours.
 */
void sksplice_pump_inline(struct sksplice_flow *flow)
{
	struct sock *src = sksplice_src(flow), *dst;
	enum sksplice_verdict v = SKSPLICE_DEFER;

	sksplice_assert_slock(src);
	if (!sksplice_flow_live(flow) || test_bit(SKSPLICE_RUN_BLOCKED, &flow->run))
		return;
	if (flow->op->generic) {
		sksplice_pump_kick(flow);
		return;
	}
	dst = sksplice_dst(flow);	/* there, since the flow has begun */
	if (sksplice_pump_streaming(flow) || this_cpu_read(sksplice_pump_depth)) {
		sksplice_pump_kick(flow);
		if (sksplice_pump_heaped(flow)) {
			sksplice_pump_will_queue(flow);
			queue_delayed_work(sksplice_pump_wq, &flow->work, 0);
		}
		return;
	}
	if (dst != src && !spin_trylock(&dst->sk_lock.slock)) {
		sksplice_pump_missed(flow);
		sksplice_pump_kick(flow);
		return;
	}
	if (dst->sk_lock.owned) {
		sksplice_pump_missed(flow);
	} else {
		this_cpu_inc(sksplice_pump_depth);
		v = sksplice_pump_locked(flow, false);
		this_cpu_dec(sksplice_pump_depth);
	}
	if (dst != src)
		spin_unlock(&dst->sk_lock.slock);
	if (v != SKSPLICE_EMPTY && v != SKSPLICE_FULL && v != SKSPLICE_STOPPED)
		sksplice_pump_kick(flow);
}

/*
 * BH off. Takes both slocks, in the order of their addresses: the only place that waits for one
 * while it holds another. False: a user owns one of the sockets, nothing is held.
 */
static bool sksplice_pump_lock(struct sock *src, struct sock *dst)
{
	struct sock *first = min(src, dst), *second = max(src, dst);

	bh_lock_sock(first);
	if (first != second)
		bh_lock_sock_nested(second);
	if (!first->sk_lock.owned && !second->sk_lock.owned)
		return true;
	if (first != second)
		bh_unlock_sock(second);
	bh_unlock_sock(first);
	return false;
}

static void sksplice_pump_unlock(struct sock *src, struct sock *dst)
{
	if (src != dst)
		bh_unlock_sock(dst);
	bh_unlock_sock(src);
}

/* As pump_run, with the slocks. */
static enum sksplice_verdict sksplice_pump_fast(struct sksplice_flow *flow, void **spent)
{
	struct sock *src = sksplice_src(flow), *dst = sksplice_dst(flow);
	enum sksplice_verdict v = SKSPLICE_MISSED;

	local_bh_disable();
	if (sksplice_pump_lock(src, dst)) {
		this_cpu_inc(sksplice_pump_depth);
		v = sksplice_pump_locked(flow, true);
		this_cpu_dec(sksplice_pump_depth);
		*spent = sksplice_extra_spent(flow);
		sksplice_pump_unlock(src, dst);
	} else {
		sksplice_pump_missed(flow);
	}
	local_bh_enable();
	return v;
}

/*
 * Context: process. The flow's ends are attached, or were and the operation has not yet
 * canceled the worker: both sockets are there.
 */
static void sksplice_pump_run(struct sksplice_flow *flow)
{
	void *spent = NULL;
	enum sksplice_verdict v = flow->op->generic ? sksplice_generic_run(flow, &spent) :
				  sksplice_pump_fast(flow, &spent);

	kvfree(spent);
	if ((v == SKSPLICE_MISSED || v == SKSPLICE_NOMEM) && sksplice_flow_live(flow)) {
		sksplice_pump_later(flow, v);
		return;
	}
	WRITE_ONCE(flow->retries, 0);
	if (v == SKSPLICE_MORE)
		sksplice_pump_kick(flow);
}

/* As above, by who begins the operation: what may sleep for ever is left to the worker. */
void sksplice_pump_now(struct sksplice_flow *flow)
{
	if (flow->op->generic)
		sksplice_pump_kick(flow);
	else
		sksplice_pump_run(flow);
}

/* As above, by the worker or a runner. KICKED goes first: what comes after it wants another run. */
void sksplice_pump_turn(struct sksplice_flow *flow)
{
	clear_bit(SKSPLICE_RUN_KICKED, &flow->run);
	smp_mb__after_atomic();
	sksplice_pump_run(flow);
}

void sksplice_pump_worker(struct work_struct *work)
{
	sksplice_pump_turn(container_of(work, struct sksplice_flow, work.work));
}
