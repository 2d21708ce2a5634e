// SPDX-License-Identifier: GPL-2.0
/*
 * The end of an operation, in three phases, each in process context on the operations' queue.
 *
 * 1. Unreachable. A generic run, which may be between a send and what it takes from the source for
 *    it, is over first, and no other begins. Each socket is given back under its slock with no owner. Its callbacks run
 *    under that lock or with an owner, so none is running, and none can find a flow of ours
 *    afterwards; inline runs hold the source's slock from the look-up to the end, so none is in
 *    the pump. The one callback that comes without, error_report, looks and kicks under
 *    sksplice_sock->lock, in which the flow is taken away. What may still be there: the flows'
 *    workers, queued or running; those find a stopped flow, or one whose sink is not its own.
 * 2. Wait. Callbacks and the worker itself queue a flow's worker; a run kicks the other flow of a
 *    pair, too, but only with both slocks and both ends of each flow there, so before the end of
 *    phase one. The first are gone; cancel_delayed_work_sync() ends the second even when it
 *    requeues itself, and so does sksplice_runner_cancel()
 *    with runners; see sksplice_teardown_cancel(). A generic flow is also kicked by the other one
 *    when that has run, and in its turn by any flow of its user: first it is taken off the list of
 *    those that wait, which is done under the lock that they kick under, and none is put there that
 *    is stopped; and the first flow is canceled once more. A flow of plain TCP whose worker was never queued has none to end: who queues it
 *    sets RUN_QUEUED first, and does it under a lock, or as an owner, of phase one, or before the operation
 *    has begun, which teardown waits for, or as a runner, with no lock: so after those are canceled
 *    it is asked again. Now nothing but this work refers to the flows.
 * 3. Release. Sockets are reset where the contract says so, the files let go, the completion
 *    is sent. The files were held until here, so sockets, their netns and modules were there.
 *
 * An owner's pairs that do not mind, and have ended well, wait for each other a moment and are torn down by
 * one work, one after the other, and he is told of several at once: see sksplice_teardown_soon().
 *
 * A socket that a user owns makes phase one (and the reset) try again later: never a wait.
 */
#include <linux/file.h>
#include <linux/module.h>
#include <net/net_namespace.h>
#include <net/tcp.h>

#include "sksplice.h"
#include "trace.h"

#define SKSPLICE_TEARDOWN_RETRIES_AT_ONCE 2
#define SKSPLICE_TEARDOWN_SOON_MS 4
#define SKSPLICE_TEARDOWN_SOON_MAX 64	/* by one work */

/* The two sockets; both flows of a pair use the same. */
static struct sksplice_sock *sksplice_teardown_sock(struct sksplice_op *op, int i)
{
	struct sksplice_flow *there = &op->flow[0], *back = &op->flow[op->nr_flows - 1];

	if (i == 0)
		return there->src;
	if (there->dst == there->src)
		return NULL;
	return there->dst ? : (back != there ? back->src : NULL);
}

/*
 * Phase one, by the operation's work, or by its creator before that may run. False: not all the
 * way yet. What is done stays done.
 */
bool sksplice_teardown_unreach(struct sksplice_op *op)
{
	int i;

	if (!op->detached && !sksplice_generic_stop(op))
		return false;
	for (i = 0; i < 2; i++) {
		struct sksplice_sock *ss = sksplice_teardown_sock(op, i);

		if (op->detached & BIT(i))
			continue;
		if (!ss || sksplice_end_detach(ss, op))
			op->detached |= BIT(i);
	}
	return op->detached == (BIT(0) | BIT(1));
}

static void sksplice_teardown_cancel_worker(struct sksplice_flow *flow)
{
	if (flow->op->generic || test_bit(SKSPLICE_RUN_QUEUED, &flow->run))
		cancel_delayed_work_sync(&flow->work);
}

/*
 * The worker's last run may have queued the flow with the runners, and a runner's with the worker; what
 * begins now finds it stopped and queues nothing.
 */
static void sksplice_teardown_cancel(struct sksplice_flow *flow)
{
	sksplice_teardown_cancel_worker(flow);
	if (!test_bit(SKSPLICE_RUN_STREAM, &flow->run))
		return;
	sksplice_runner_cancel(flow);
	sksplice_teardown_cancel_worker(flow);
}

/* Phase two. */
static void sksplice_teardown_wait(struct sksplice_op *op)
{
	int i;

	for (i = 0; op->generic && i < op->nr_flows; i++)
		sksplice_user_forget(&op->flow[i]);
	for (i = 0; i < op->nr_flows; i++)
		sksplice_teardown_cancel(&op->flow[i]);
	/* the last run of the second generic flow may have kicked the first */
	if (op->generic)
		cancel_delayed_work_sync(&op->flow[0].work);
}

/* What is no byte of the stream is there to be read by a caller who has the sockets. */
static bool sksplice_teardown_readable(const struct sksplice_op *op)
{
	return op->generic && (op->flags & SKSPLICE_F_KEEP) &&
	       (op->event.error == EPROTO || op->event.error == EKEYEXPIRED);
}

static bool sksplice_teardown_resets(const struct sksplice_op *op)
{
	switch (op->event.cause) {
	case SKSPLICE_CAUSE_REVOKED:
		return true;
	case SKSPLICE_CAUSE_SOURCE_FAILED:
		return sksplice_op_owns(op) && !sksplice_teardown_readable(op);
	case SKSPLICE_CAUSE_SINK_FAILED:
		/* of a pair it is a source, too */
		if (op->nr_flows == 2 && sksplice_teardown_readable(op))
			return false;
		/* A refused connection leaves a source that the caller has, for the next attempt. */
		return sksplice_op_owns(op) && !((op->flags & SKSPLICE_F_KEEP) &&
				sksplice_extra_in(op, SKSPLICE_PHASE_CONNECTING));
	default:
		return false;
	}
}

/*
 * Can somebody else own one of the sockets while we reset it? Then that goes to a queue of its
 * own: tcp_abort() takes lock_sock(), and a worker that waits in vain must not stop other
 * operations from giving their ends back.
 */
static bool sksplice_teardown_shared(const struct sksplice_op *op)
{
	return !op->abandoned && sksplice_teardown_resets(op) &&
	       ((op->file[0] && file_count(op->file[0]) > 1) || file_count(op->file[1]) > 1);
}

/*
 * Phase three. What failed on one end fails on the other with the same errno. Not on a socket
 * that has an owner now. False: try again later.
 */
static bool sksplice_teardown_reset(struct sksplice_op *op)
{
	int i;

	if (op->abandoned || !sksplice_teardown_resets(op))
		return true;
	for (i = 0; i < 2; i++) {
		struct sksplice_sock *ss = sksplice_teardown_sock(op, i);

		if (!ss)
			continue;
		if (READ_ONCE(ss->sk->sk_lock.owned))
			return false;
		sksplice_proto_abort(ss, op->event.error);
	}
	op->event.ended = (op->file[0] ? SKSPLICE_END_SOURCE : 0) | SKSPLICE_END_SINK;
	return true;
}

static void sksplice_teardown_flows(struct sksplice_op *op)
{
	int i;

	for (i = 0; i < op->nr_flows; i++) {
		sksplice_sock_put(op->flow[i].src);
		sksplice_sock_put(op->flow[i].dst);
	}
	sksplice_extra_free(op);
	sksplice_generic_free(op);
}

/*
 * __fput_sync(): the last close is done here, before the completion, and not by the one global
 * work that does it for every other kernel thread. It must not linger here either: never on a
 * socket that was given to us, nor on one of which we have the only reference left.
 */
static void sksplice_teardown_fput(const struct sksplice_op *op, struct file *file)
{
	struct sock *sk = sock_from_file(file)->sk;

	if ((sksplice_op_closes(op) || file_count(file) == 1) && sksplice_sock_trylock(sk)) {
		sock_reset_flag(sk, SOCK_LINGER);
		sksplice_sock_unlock(sk);
	}
	__fput_sync(file);
}

static void sksplice_teardown_files(struct sksplice_op *op)
{
	struct file *file[2];
	int i;

	spin_lock_bh(&op->lock);
	for (i = 0; i < 2; i++) {
		file[i] = op->reclaim ? NULL : op->file[i];
		op->file[i] = NULL;
	}
	spin_unlock_bh(&op->lock);
	for (i = 0; i < 2; i++)
		if (file[i])
			sksplice_teardown_fput(op, file[i]);
}

/*
 * Phase three. Afterwards @op is the completion, if somebody wants it; @together: who called delivers it.
 */
static void sksplice_teardown_release(struct sksplice_op *op, bool together)
{
	struct net *net = op->net;

	sksplice_teardown_flows(op);
	sksplice_op_forget(op);
	sksplice_teardown_files(op);
	if (!op->abandoned) {
		trace_sksplice_end(op);
		sksplice_count(ended);
	}
	refcount_inc(&op->refs);
	if (sksplice_event_add(op) && !together)
		sksplice_event_deliver(op->owner);	/* as long as @op is there it is */
	sksplice_op_gone(op);
	sksplice_op_put(op);
	if (net)
		put_net(net);
	module_put(THIS_MODULE);
}

static void sksplice_teardown_later(struct sksplice_op *op)
{
	unsigned long delay = 0;

	if (op->retries >= SKSPLICE_TEARDOWN_RETRIES_AT_ONCE)
		delay = 1 << (op->retries - SKSPLICE_TEARDOWN_RETRIES_AT_ONCE);
	if (op->retries < SKSPLICE_TEARDOWN_RETRIES_AT_ONCE + 4)
		op->retries++;
	queue_delayed_work(op->resetting ? sksplice_reset_wq : sksplice_op_wq, &op->work, delay);
}

/* Not ending: was it quiet for too long? */
static void sksplice_teardown_idle(struct sksplice_op *op)
{
	unsigned long limit = msecs_to_jiffies(op->idle_ms), quiet;

	/* An acknowledgment that is waited for is as good as a byte. */
	if (sksplice_extra_drains(op))
		WRITE_ONCE(op->moved, jiffies);
	quiet = sksplice_op_quiet(op);
	if (quiet >= limit)
		sksplice_op_end(op, SKSPLICE_CAUSE_IDLE, 0);
	else
		queue_delayed_work(sksplice_op_wq, &op->work, limit - quiet);
}

/*
 * All phases, in process context, by the one who may: see teardown_work(). False: the operation's own work
 * goes on.
 */
static bool sksplice_teardown(struct sksplice_op *op, bool together)
{
	if (!sksplice_teardown_unreach(op)) {
		sksplice_teardown_later(op);
		return false;
	}
	sksplice_teardown_wait(op);
	if (!op->resetting && sksplice_teardown_shared(op)) {
		op->resetting = true;
		queue_delayed_work(sksplice_reset_wq, &op->work, 0);
		return false;
	}
	if (!sksplice_teardown_reset(op)) {
		sksplice_teardown_later(op);
		return false;
	}
	sksplice_teardown_release(op, together);
	return true;
}

/*
 * Context: any, op->lock held, @op has begun and ended and its own work was never queued: its owner's list
 * has it once, with the operation's own reference. Who finds the list empty queues the work; that takes all there are
 * after it has begun, so it is not pending when the list is empty, and is queued then.
 */
void sksplice_teardown_soon(struct sksplice_op *op)
{
	struct sksplice_owner *owner = op->owner;	/* no one adopts what ends */

	lockdep_assert_held(&op->lock);
	if (!llist_add(&op->soon_node, &owner->soon))
		return;
	refcount_inc(&owner->refs);
	queue_delayed_work(sksplice_op_wq, &owner->soon_work,
			   msecs_to_jiffies(SKSPLICE_TEARDOWN_SOON_MS));
}

/*
 * An owner's work, which has a reference: tears down what has ended, in that order, and tells of several
 * at once. A close may wait, for ever if another program has arranged for that: so the list is the owner's,
 * who waits for himself. Of very many those behind are left to their own works, which run on all processors; so is what cannot be torn
 * down now. op->lock is taken for who ended it: he may still hold it. On module exit the flush of the
 * queue is behind the last reference to the module, as it is for the operations' works.
 */
void sksplice_teardown_some(struct work_struct *work)
{
	struct sksplice_owner *owner = container_of(work, struct sksplice_owner, soon_work.work);
	struct llist_node *list = llist_reverse_order(llist_del_all(&owner->soon));
	struct sksplice_op *op, *next;
	unsigned int n = 0;

	llist_for_each_entry_safe(op, next, list, soon_node) {
		cond_resched();
		spin_lock_bh(&op->lock);
		spin_unlock_bh(&op->lock);
		if (n++ >= SKSPLICE_TEARDOWN_SOON_MAX)
			queue_delayed_work(sksplice_op_wq, &op->work, 0);
		else if (sksplice_teardown(op, true) && n % SKSPLICE_DELIVER_MAX == 0)
			sksplice_event_deliver(owner);
	}
	sksplice_event_deliver(owner);
	sksplice_owner_put(owner);
}

/*
 * An operation's work: its idle limit while it lives, then its teardown. Never runs twice at
 * once. Queued by op_arm() when it ends, by itself to try again, and never after release.
 */
void sksplice_teardown_work(struct work_struct *work)
{
	struct sksplice_op *op = container_of(work, struct sksplice_op, work.work);
	bool ending;

	spin_lock_bh(&op->lock);
	ending = op->ending;
	spin_unlock_bh(&op->lock);
	if (!ending) {
		sksplice_teardown_idle(op);
		return;
	}
	/* The idle work may be here already while op_arm() has queued it for the end, too. */
	if (op->idle_ms)
		cancel_delayed_work(&op->work);
	sksplice_teardown(op, false);
}
