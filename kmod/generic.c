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

	if (!g)
		return -ENOMEM;
	mutex_init(&g->mutex);
	g->tgid = get_pid(task_tgid(current));
	g->uid = current_uid();
	g->gid = current_gid();
	op->generic = g;
	return 0;
}

/* Context: process, phase three of teardown: no run is left. */
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

/* Mutex held. Have others swapped the calls that we put in their way? */
static bool sksplice_generic_intact(const struct sksplice_sock *ss)
{
	bool intact;

	local_bh_disable();
	bh_lock_sock(ss->sk);
	intact = sksplice_end_intact(ss);
	bh_unlock_sock(ss->sk);
	local_bh_enable();
	return intact;
}

/* Mutex held. GO: the sink may be written to, or it has failed. */
enum sksplice_verdict sksplice_generic_sink_ready(struct sksplice_flow *flow)
{
	int err = sksplice_proto_sink_broken(flow->dst);

	sksplice_assert_run(flow);
	if (err)
		return sksplice_generic_fail(flow, false, err);
	if (!sksplice_generic_intact(flow->dst)) {
		sksplice_count(intruded);
		return sksplice_generic_fail(flow, false, EBUSY);
	}
	return SKSPLICE_GO;
}

/* Mutex held. GO: bytes may be moved, or it has failed. */
enum sksplice_verdict sksplice_generic_ready(struct sksplice_flow *flow)
{
	enum sksplice_verdict v = sksplice_generic_sink_ready(flow);

	if (v == SKSPLICE_GO && flow->src != flow->dst && !sksplice_generic_intact(flow->src)) {
		sksplice_count(intruded);
		return sksplice_generic_fail(flow, true, EBUSY);
	}
	return v;
}

/* Mutex held. As sksplice_tcp_sent(): does the run go on? */
enum sksplice_verdict sksplice_generic_sent(struct sksplice_flow *flow, ssize_t sent, size_t len)
{
	int err;

	sksplice_assert_run(flow);
	if (sent > 0 && flow->dst->proto->tcp)
		WRITE_ONCE(flow->write_seq, READ_ONCE(tcp_sk(sksplice_dst(flow))->write_seq));
	if (sent == (ssize_t)len)
		return SKSPLICE_GO;
	/* Who takes less than it was given has no room, and calls when it has. */
	if (sent > 0 || sent == -EAGAIN)
		return SKSPLICE_FULL;
	if (!sent || sent == -ENOMEM || sent == -ENOBUFS) {
		sksplice_count(nomem);
		return SKSPLICE_NOMEM;
	}
	err = sksplice_tcp_error(flow->dst);
	return sksplice_generic_fail(flow, false, err ? : -sent);
}

/* Mutex held. Nothing that the sinks accepted is lost when they are closed now. */
bool sksplice_generic_settled(const struct sksplice_op *op)
{
	int i;

	if (!op->generic || !sksplice_op_closes(op))
		return true;
	for (i = 0; i < op->nr_flows; i++)
		if (!sksplice_proto_settled(op->flow[i].dst))
			return false;
	return true;
}

/* Mutex held. The last byte has moved. */
static enum sksplice_verdict sksplice_generic_done(struct sksplice_flow *flow,
						   enum sksplice_cause cause)
{
	return sksplice_generic_settled(flow->op) ? sksplice_flow_done(flow, cause) : SKSPLICE_MISSED;
}

/* Mutex held. Nothing to read: over, failed, or just empty? */
static enum sksplice_verdict sksplice_generic_dry(struct sksplice_flow *flow, ssize_t got)
{
	struct sksplice_op *op = flow->op;
	int err = got == -EAGAIN ? 0 : -got;

	if (!err)
		err = sksplice_proto_source_broken(flow->src);
	if (err)
		return sksplice_generic_fail(flow, true, err);
	if (got)
		return SKSPLICE_EMPTY;
	WRITE_ONCE(flow->eof, true);
	if ((sksplice_op_owns(op) || (op->flags & SKSPLICE_F_SHUTDOWN)) &&
	    sksplice_proto_finish(flow))
		return SKSPLICE_MISSED;
	return sksplice_flow_eof(flow);
}

/* Mutex held. One step. GO: there may be more. */
static enum sksplice_verdict sksplice_generic_step(struct sksplice_flow *flow, void *buf,
						   size_t *budget)
{
	size_t max = min3((u64)SKSPLICE_GENERIC_BUF, (u64)*budget, flow->left), len;
	ssize_t got = flow->src->proto->peek(flow, buf, max), sent;

	if (got <= 0)
		return sksplice_generic_dry(flow, got);
	len = unlikely(flow->extra) ? sksplice_delim_find(flow->extra, buf, got) : got;
	sent = sksplice_proto_send(flow, buf, len);
	if (sent > 0) {
		int err;

		if (unlikely(flow->extra))
			sksplice_delim_took(flow->extra, buf, sent, len);
		*budget -= sent;
		sksplice_flow_moved(flow, sent);
		err = sksplice_proto_consume(flow->src, sent);
		if (err)
			return sksplice_generic_fail(flow, true, -err);
	}
	return sksplice_generic_sent(flow, sent, len);
}

/* Mutex held, and ready: the generic counterpart of sksplice_tcp_move(). */
enum sksplice_verdict sksplice_generic_move(struct sksplice_flow *flow, size_t budget)
{
	enum sksplice_verdict v = SKSPLICE_GO;
	int rounds = SKSPLICE_GENERIC_ROUNDS;
	void *buf = NULL;

	while (v == SKSPLICE_GO && flow->left && budget && rounds-- &&
	       !sksplice_delim_met(flow->extra)) {
		if (READ_ONCE(flow->op->ending)) {
			v = SKSPLICE_STOPPED;
			break;
		}
		if (!buf)
			buf = kvmalloc(SKSPLICE_GENERIC_BUF, GFP_KERNEL);
		v = buf ? sksplice_generic_step(flow, buf, &budget) : SKSPLICE_NOMEM;
	}
	kvfree(buf);
	if (v == SKSPLICE_STOPPED)
		return v;
	if (!flow->left)
		return sksplice_generic_done(flow, SKSPLICE_CAUSE_DONE);
	if (sksplice_delim_met(flow->extra))
		return sksplice_generic_done(flow, SKSPLICE_CAUSE_DELIM);
	return v == SKSPLICE_GO ? SKSPLICE_MORE : v;
}

/*
 * Mutex held. The operation ends well: has the source come to its end, too? The completion tells,
 * and nobody can be asked any more when that is made.
 */
static void sksplice_generic_look(struct sksplice_flow *flow)
{
	u8 byte;

	if (!sksplice_op_sends(flow->op) && READ_ONCE(flow->op->ending) && !flow->left &&
	    !flow->eof && !sksplice_proto_source_broken(flow->src))
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
	if (v == SKSPLICE_STOPPED)
		sksplice_generic_look(flow);
	return v;
}

/* Context: the flow's work, before the operation has canceled that. *@spent: to be freed. */
enum sksplice_verdict sksplice_generic_run(struct sksplice_flow *flow, void **spent)
{
	struct sksplice_generic *g = flow->op->generic;
	enum sksplice_verdict v;

	if (!sksplice_user_enter(flow->op->user))
		return SKSPLICE_MISSED;
	mutex_lock(&g->mutex);
	v = sksplice_generic_locked(flow);
	*spent = sksplice_extra_spent(flow);
	mutex_unlock(&g->mutex);
	sksplice_user_leave(flow->op->user);
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
