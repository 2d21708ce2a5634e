// SPDX-License-Identifier: GPL-2.0
/*
 * Every transition of a flow's state, under the source's slock but for init and begin; of a generic
 * one under its operation's mutex.
 */
#include "sksplice.h"
#include "trace.h"

static void sksplice_flow_set(struct sksplice_flow *flow, enum sksplice_state state)
{
	WRITE_ONCE(flow->state, state);
}

/*
 * The state of another flow than the one whose run it is, both slocks held. One that has not begun
 * is its creator's, who takes no lock: it will find out in its first run, which follows.
 */
static void sksplice_flow_set_other(struct sksplice_flow *flow, enum sksplice_state state)
{
	if (READ_ONCE(flow->state) != SKSPLICE_STATE_CLOSING)
		sksplice_flow_set(flow, state);
}

/* Not yet reachable by anybody else. CLOSING: nothing may move before begin. */
void sksplice_flow_init(struct sksplice_flow *flow, struct sksplice_op *op, u64 limit)
{
	flow->op = op;
	flow->left = limit;
	flow->state = SKSPLICE_STATE_CLOSING;
	INIT_DELAYED_WORK(&flow->work, sksplice_pump_worker);
	INIT_LIST_HEAD(&flow->ready);
}

/* Pairs with begin: a live flow has both its ends. */
bool sksplice_flow_live(const struct sksplice_flow *flow)
{
	return smp_load_acquire(&flow->state) <= SKSPLICE_STATE_BLOCKED;
}

/* No lock: both ends are attached, and until now nobody but the creator writes the state. */
void sksplice_flow_begin(struct sksplice_flow *flow)
{
	WARN_ON_ONCE(flow->state != SKSPLICE_STATE_CLOSING || !flow->src || !flow->dst);
	smp_store_release(&flow->state, SKSPLICE_STATE_IDLE);	/* pairs with flow_live() */
}

/* A run begins; also needs the sink's slock, under which its write_space looks at BLOCKED. */
void sksplice_flow_run(struct sksplice_flow *flow)
{
	sksplice_assert_run(flow);
	clear_bit(SKSPLICE_RUN_BLOCKED, &flow->run);
	sksplice_flow_set(flow, SKSPLICE_STATE_RUNNING);
}

/*
 * A run ends without an end. Needs the sink's slock too: no room can be made between the failed
 * send and BLOCKED, because making room, and the write_space that looks at it, take that lock. In a
 * generic run it can: there RUNNING is as good a reason to kick.
 */
void sksplice_flow_stall(struct sksplice_flow *flow, enum sksplice_verdict v)
{
	sksplice_assert_run(flow);
	trace_sksplice_run(flow, v);
	if (flow->state != SKSPLICE_STATE_RUNNING)
		return;
	if (v == SKSPLICE_FULL) {
		set_bit(SKSPLICE_RUN_BLOCKED, &flow->run);
		sksplice_count(blocked);
	}
	sksplice_flow_set(flow, v == SKSPLICE_FULL || v == SKSPLICE_NOMEM ?
			  SKSPLICE_STATE_BLOCKED : SKSPLICE_STATE_IDLE);
}

void sksplice_flow_moved(struct sksplice_flow *flow, size_t bytes)
{
	sksplice_assert_run(flow);
	WRITE_ONCE(flow->bytes, flow->bytes + bytes);
	flow->left -= bytes;
	if (READ_ONCE(flow->op->moved) != jiffies)
		WRITE_ONCE(flow->op->moved, jiffies);
	sksplice_add(bytes, bytes);
}

/* The operation's word for what happened to one end of one of its flows. */
void sksplice_flow_fail(struct sksplice_flow *flow, bool source, int error)
{
	sksplice_assert_run(flow);
	sksplice_flow_set_other(flow, SKSPLICE_STATE_DONE);
	sksplice_op_end(flow->op, source != flow->back ? SKSPLICE_CAUSE_SOURCE_FAILED :
			SKSPLICE_CAUSE_SINK_FAILED, error);
}

/* The operation ends well, and this flow was the one to find out. */
enum sksplice_verdict sksplice_flow_end(struct sksplice_flow *flow, enum sksplice_cause cause)
{
	sksplice_assert_run(flow);
	sksplice_flow_set(flow, SKSPLICE_STATE_DONE);
	sksplice_op_end(flow->op, cause, 0);
	return SKSPLICE_STOPPED;
}

/*
 * Both slocks held. The limit or the delimiter: ends the whole operation, also when only one
 * direction of a pair reached it. GO: not yet, something follows the last byte.
 */
enum sksplice_verdict sksplice_flow_done(struct sksplice_flow *flow, enum sksplice_cause cause)
{
	if (unlikely(flow->extra))
		return sksplice_extra_finish(flow, cause);
	return sksplice_flow_end(flow, cause);
}

/*
 * End of stream, already propagated to the sink where it is to be. A pair lives on until the
 * other direction is over too: each flow is set DONE before the other is looked at, with a full
 * barrier between, so at least one of two that end at once sees both (ending twice is harmless).
 * GO: as above.
 */
enum sksplice_verdict sksplice_flow_eof(struct sksplice_flow *flow)
{
	struct sksplice_op *op = flow->op;
	int i;

	sksplice_assert_run(flow);
	sksplice_flow_set(flow, SKSPLICE_STATE_DONE);
	smp_mb();	/* pairs with the other flow's, as said above */
	for (i = 0; i < op->nr_flows; i++)
		if (READ_ONCE(op->flow[i].state) != SKSPLICE_STATE_DONE)
			return SKSPLICE_STOPPED;
	return sksplice_flow_done(flow, SKSPLICE_CAUSE_EOF);
}

/*
 * Both slocks held. No byte is left to send: all flows wait for their sinks' peers, and this one,
 * whose run it is, looks first. The one way back from DONE, in which the end of a stream left it.
 */
void sksplice_flow_drain(struct sksplice_flow *flow)
{
	struct sksplice_op *op = flow->op;
	int i;

	sksplice_assert_run(flow);
	for (i = 0; i < op->nr_flows; i++)
		sksplice_flow_set_other(&op->flow[i], SKSPLICE_STATE_BLOCKED);
	sksplice_flow_set(flow, SKSPLICE_STATE_RUNNING);
}

/*
 * The operation takes the flow from its source, whose slock is held, or stops a generic one, whose
 * mutex is: no run begins after this.
 */
void sksplice_flow_stop(struct sksplice_flow *flow)
{
	sksplice_flow_set(flow, SKSPLICE_STATE_DONE);
}
