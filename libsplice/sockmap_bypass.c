// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * Past the relay: each way of a pair whose two peers were learned may go from peer to peer; bpf/bypass.bpf.h decides that with each
 * send. What goes so is counted there, and the operation's figures are brought up to it whenever somebody looks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

#include <bpf/bpf.h>

#include "../bpf/bypass.h"
#include "sockmap.h"

#define TRIES		100	/* of what fails for want of memory, which passes */
#define PAUSE_NS	1000000
#define WITHIN_TRIES	300	/* 30 ms and more, for a way */
#define WITHIN_FEW	20	/* where that was in vain for the one before; 10 were the most seen otherwise */
#define WITHIN_PAUSE_NS	100000

/* A role is looked at and then taken: one at a time, in the whole process. */
static pthread_mutex_t engaging = PTHREAD_MUTEX_INITIALIZER;

static bool may_retry(unsigned int *tries)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };

	nanosleep(&pause, NULL);
	return ++*tries < TRIES;
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	return cookie;
}

/* What it returns; negative: it did not run. */
static int ask(int program, struct bypass_order *o)
{
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = o, .data_size_in = sizeof(*o));

	return bpf_prog_test_run_opts(program, &run) ? -1 : (int)run.retval;
}

static bool run(int program, struct bypass_order *o)
{
	return !ask(program, o);
}

static bool peer_of(const struct user_sock *end, struct local_key *peer, uint64_t *cookie)
{
	struct local_key own;

	return end->hops && sockmap_hop_name(end->fd, &own, peer) &&
	       !bpf_map_lookup_elem(sockmap_load_maps()->peers, peer, cookie);
}

static bool read_hop(const struct user_sock *sink, struct local_hop *h)
{
	return !bpf_map_lookup_elem(sockmap_load_maps()->hops, &sink->fd, h);
}

static bool write_hop(const struct user_sock *sink, const struct local_hop *h)
{
	return !bpf_map_update_elem(sockmap_load_maps()->hops, &sink->fd, h, BPF_EXIST);
}

static void copy_account(struct local_hop *to, const struct local_hop *from)
{
	to->bytes = from->bytes;
	to->msgs = from->msgs;
	to->mark_bytes = from->mark_bytes;
	to->mark_msgs = from->mark_msgs;
	to->read_msgs = from->read_msgs;
}

/* What the sink has sent to the target counts there: what of it still waits, waits for the same peer. Nobody but us sends now. */
static bool lend_account(const struct user_sock *sink, uint64_t cookie, struct bypass_way *w)
{
	struct local_hop h;

	if (!read_hop(sink, &h))
		return false;
	copy_account(&w->to, &h);
	h.way = cookie;
	return write_hop(sink, &h);
}

/* The next operation with this sink must not begin at nothing. */
static void return_account(const struct user_sock *sink, const struct bypass_way *w)
{
	unsigned int tries = 0;
	struct local_hop h;

	if (!read_hop(sink, &h))
		return;
	copy_account(&h, &w->to);
	h.way = 0;
	while (!write_hop(sink, &h) && may_retry(&tries))
		;
}

static bool engage(struct bypass_order *o, const struct user_sock *sink)
{
	struct bypass_way w = { .phase = BYPASS_OFF };
	bool ok;

	if (!lend_account(sink, o->cookie, &w) || bpf_map_update_elem(sockmap_load_maps()->ways, &o->cookie, &w, BPF_NOEXIST))
		return false;
	pthread_mutex_lock(&engaging);
	ok = run(sockmap_load_maps()->engage, o);
	pthread_mutex_unlock(&engaging);
	if (!ok)
		bpf_map_delete_elem(sockmap_load_maps()->ways, &o->cookie);
	return ok;
}

/* What the relay itself has to send first is not overtaken. */
static void begin_flow(struct user_flow *flow)
{
	struct bypass_order o = {
		.source = cookie_of(flow->src->fd), .sink = cookie_of(flow->dst->fd),
		.phase = flow->out ? BYPASS_HELD : BYPASS_OPEN,
	};
	uint64_t target;

	if (!peer_of(flow->src, &o.sender, (uint64_t *)&o.cookie) || !peer_of(flow->dst, &o.target, &target) || 
	    !engage(&o, flow->dst))
		return;
	flow->sender = o.cookie;
	flow->held = flow->out;
}

static void begin(struct user_op *op)
{
	begin_flow(&op->flow[0]);
	begin_flow(&op->flow[1]);
	if (!op->flow[0].sender && !op->flow[1].sender)
		return;
	/* a byte leaves the source when the sink has it: that is how the kernel sees that none is in between; or the way is held */
	op->peek = true;
}

static bool steer(const struct user_flow *flow, enum bypass_phase phase)
{
	struct bypass_order o = { .cookie = flow->sender, .phase = phase };

	return run(sockmap_load_maps()->steer, &o);
}

/* A way that could not be opened stays held: the flow tries again with its next step. */
static bool hold(struct user_flow *flow, bool held)
{
	if (!steer(flow, held ? BYPASS_HELD : BYPASS_OPEN))
		return false;
	flow->held = held;
	return true;
}

/* Without this a message would be taken still, by whoever has found the way before it goes from the map. */
static void close_way(const struct user_flow *flow)
{
	unsigned int tries = 0;

	while (!steer(flow, BYPASS_OFF) && may_retry(&tries))
		;
}

static bool look_at(struct user_flow *flow, struct bypass_way *w)
{
	uint64_t moved;

	if (!flow->sender || bpf_map_lookup_elem(sockmap_load_maps()->ways, &flow->sender, w))
		return false;
	flow->bytes += w->crossed - flow->crossed;
	flow->crossed = w->crossed;
	moved = w->moved_ns / 1000000;
	if (moved > flow->op->moved)
		flow->op->moved = moved;
	return true;
}

static void look(struct user_op *op)
{
	struct bypass_way w;

	look_at(&op->flow[0], &w);
	look_at(&op->flow[1], &w);
}

/*
 * A thread that has decided before the way was OFF may not have put its bytes into the queue yet: a FIN of ours would overtake
 * them. Mostly it is there in some us. It cannot be waited for as long as it takes: where somebody is stopped in a call on the target
 * that thread stays where it is, and so would we.
 */
static void let_pass(const struct user_flow *flow)
{
	struct bypass_order o = { .cookie = flow->sender, .phase = BYPASS_ASK };
	const struct timespec pause = { .tv_nsec = WITHIN_PAUSE_NS };
	static unsigned int patience = WITHIN_TRIES;
	unsigned int i, most = __atomic_load_n(&patience, __ATOMIC_RELAXED);

	for (i = 0; i < most && ask(sockmap_load_maps()->steer, &o) == BYPASS_WITHIN; i++)
		nanosleep(&pause, NULL);
	/* who never leaves is none of ours, as where the sender is in somebody else's map too: the next may be so as well */
	__atomic_store_n(&patience, i < most ? WITHIN_TRIES : WITHIN_FEW, __ATOMIC_RELAXED);
}

/* Whatever was redirected counts as delivered, nothing is any more. */
static void end(struct user_op *op)
{
	struct user_flow *flow;
	struct bypass_way w;

	for (flow = op->flow; flow < op->flow + 2; flow++) {
		if (!flow->sender)
			continue;
		close_way(flow);
		let_pass(flow);
		if (look_at(flow, &w))
			return_account(flow->dst, &w);
		bpf_map_delete_elem(sockmap_load_maps()->ways, &flow->sender);
		flow->sender = 0;
		flow->held = false;
	}
}

const struct user_bypass sockmap_bypass = { .begin = begin, .hold = hold, .look = look, .end = end };
