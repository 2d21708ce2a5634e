// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The flows of the engine sockmap in sk_skb mode: the kernel moves their bytes as long as it can, then the engine does, for
 * good. A flow begins with the kernel once its sink is connected and its prefix sent. What the kernel would not have for
 * whatever reason the engine moves as on the engine user.
 */
#include <errno.h>

#include "sockmap_skb.h"
#include "sockmap_tcp.h"
#include "user.h"

/* Nobody tells of urgent data, at which the kernel stops reading: it is looked for so often. */
#define LOOK_MS	5000

/*
 * What can end early and with bytes for its ends is not for the kernel, which could not give back what waits for a sink:
 * sockets that are kept, an idle limit.
 */
static bool suits(const struct user_op *op)
{
	const struct user_sock *src = op->flow[0].src, *dst = op->flow[0].dst;

	return op->owns && !(op->flags & SPL_F_KEEP) && !op->idle_ms && src != dst && src->kind == USER_TCP &&
	       dst->kind == USER_TCP && !src->tls && !dst->tls;
}

/* The timer is for what no event tells. */
static int admit(struct user *u, struct user_op *op)
{
	const struct user_flow *flow = &op->flow[0];
	int r;

	if (!suits(op))
		return 0;
	if (flow->left != SPL_ALL && (op->flows == 2 || flow->src->tx || flow->dst->rx))
		return spl_refuse(u->spl, -EOPNOTSUPP, "without a cgroup the engine sockmap has no limit for sockets that are spliced both ways");
	r = op->timed ? 0 : user_timer_reserve(u);
	if (r)
		return spl_refuse(u->spl, r, NULL);
	op->timed = op->kernel = true;
	return 0;
}

static void account(struct user *u, struct user_flow *flow, uint64_t bytes)
{
	uint64_t more = bytes - flow->bytes;

	/* of one that leaves all was counted */
	if (!more || flow->op->phase == USER_LEAVING)
		return;
	flow->bytes += more;
	if (flow->left != SPL_ALL)
		flow->left -= more;
	flow->op->moved = u->now;
}

/* Its number in the kernel is free for another, whose bytes are not to be listed as its own. */
static void forget(struct user *u, struct user_flow *flow)
{
	flow->kernel = NULL;
	if (flow->op->record)
		u->book->note(flow->op);
}

/* The engine goes on where the kernel has ended. */
static void hand_over(struct user *u, struct user_flow *flow)
{
	forget(u, flow);
	flow->src->ready |= USER_READABLE;
	flow->dst->ready |= USER_WRITABLE;
}

/* Nagle's algorithm would hold back what follows a first small write. */
static enum user_verdict begin(struct user *u, struct user_flow *flow)
{
	size_t share = 0;
	int r = sockmap_skb_begin(flow->src->fd, flow->dst->fd, flow->left, &flow->kernel);

	flow->offered = true;
	if (!r) {
		flow->dst->first = false;
		if (flow->dst->nagle)
			user_option_unnagle(flow->dst);
		return USER_MORE;
	}
	flow->kernel = NULL;
	if (r == -EOPNOTSUPP || r == -EBUSY || r == -ENFILE || r == -ENOMEM) {
		hand_over(u, flow);
		return USER_MORE;
	}
	return user_stall_read(u, flow, r, &share);
}

/* All that waits has to be with the sink before anything else may be. */
static enum user_verdict wait_for_sink(struct user *u, struct user_flow *flow, const struct sockmap_status *st)
{
	user_phase_look_by(u, flow->op, u->now + (st->tick ? SOCKMAP_TICK_MS : LOOK_MS));
	return USER_WANTS_WRITE;
}

static bool leave(struct user *u, struct user_flow *flow)
{
	struct sockmap_status st;
	int r = sockmap_skb_end(flow->kernel, &st);

	account(u, flow, st.bytes);
	if (r == -EAGAIN)
		return false;
	hand_over(u, flow);
	if (flow->op->phase == USER_LEAVING)
		return true;
	if (st.error && st.phase != SOCKMAP_SINK_FAILED)
		user_busy_note(flow->src, st.error);
	if (st.phase == SOCKMAP_SINK_FAILED)
		user_stall_write(u, flow, -st.error);
	else if (r)
		user_phase_fail(u, flow->op, flow->src, -r);
	return true;
}

static enum user_verdict run(struct user *u, struct user_flow *flow)
{
	struct sockmap_status st;
	size_t share = 0;

	if (!flow->kernel)
		return begin(u, flow);
	/* before the look: what comes after it is told */
	flow->src->ready &= (uint8_t)~USER_READABLE;
	sockmap_skb_run(flow->kernel, &st);
	account(u, flow, st.bytes);
	switch (st.phase) {
	case SOCKMAP_MOVING:
		user_phase_look_by(u, flow->op, u->now + (st.tick ? SOCKMAP_TICK_MS : LOOK_MS));
		return USER_WANTS_READ;
	case SOCKMAP_PLAIN:
		if (!leave(u, flow))
			return wait_for_sink(u, flow, &st);
		return flow->op->phase == USER_ENDED ? USER_OVER : USER_MORE;
	case SOCKMAP_ENDING:
		return wait_for_sink(u, flow, &st);
	case SOCKMAP_DONE:
		flow->left = 0;
		return USER_MORE;
	case SOCKMAP_SINK_FAILED:
		return user_stall_write(u, flow, -st.error);
	default:
		return user_stall_read(u, flow, st.phase == SOCKMAP_EOF ? 0 : -st.error, &share);
	}
}

static uint64_t look(struct user *u, struct user_flow *flow)
{
	uint64_t backlog;

	account(u, flow, sockmap_skb_bytes(flow->kernel, &backlog));
	flow->stalled = flow->over ? SPL_WANTS_NOTHING : backlog ? SPL_WANTS_WRITE : SPL_WANTS_READ;
	return backlog;
}

static void drop(struct user *u, struct user_flow *flow, bool inherited)
{
	if (inherited) {
		/* so is the record */
		sockmap_skb_forget(flow->kernel);
		flow->kernel = NULL;
		return;
	}
	account(u, flow, sockmap_skb_drop(flow->kernel));
	forget(u, flow);
}

const struct user_mover sockmap_mover = { .admit = admit, .run = run, .look = look, .leave = leave, .drop = drop,
				       .error = sockmap_tcp_error };
