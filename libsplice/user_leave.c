// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * Leaving early, where the kernel moves the bytes: what was taken from a source and waits for its sink cannot be given back, and
 * a sink that is taken out of the kernel loses it. So it counts as accepted, and the sink stays until it has all of it.
 */
#include <unistd.h>

#include "user.h"

#define MOST_MS	60000	/* without a byte that a sink takes: as long as TCP waits for a FIN */

/* True: nothing waits any more, or the operation has ended. */
static bool try(struct user *u, struct user_op *op)
{
	bool waits = false;
	unsigned int i;

	for (i = 0; i < op->flows && op->phase != USER_ENDED; i++)
		if (op->flow[i].kernel && !u->mover->leave(u, &op->flow[i]))
			waits = true;
	return !waits;
}

static uint32_t waiting(struct user *u, struct user_op *op)
{
	uint64_t n = 0;
	unsigned int i;

	for (i = 0; i < op->flows; i++)
		if (op->flow[i].kernel)
			n += u->mover->look(u, &op->flow[i]);
	return (uint32_t)n;
}

static void left(struct user *u, struct user_op *op)
{
	user_timer_stop(u, op);
	user_op_detach(op, true);
	op->phase = USER_ENDED;
	if (op->public)
		return;		/* its event has not been collected: it is freed then */
	TAILQ_REMOVE(&u->leaving, op, done);
	user_op_free(u, op);
}

/* The sinks get no more, and learn that this is not the end. */
static void give_up(struct user *u, struct user_op *op)
{
	user_phase_drop(u, op);
	user_phase_reset(op);
	left(u, op);
}

static void depart(struct user *u, struct user_op *op)
{
	uint32_t waits[2] = { 0 };
	unsigned int i;

	for (i = 0; i < op->flows; i++) {
		if (op->flow[i].kernel)
			waits[i] = (uint32_t)u->mover->look(u, &op->flow[i]);
		op->flow[i].bytes += waits[i];
	}
	user_phase_describe(op, SPL_CANCELED, 0, false);
	/* of the sink alone, as the event's is, not of the way back */
	op->ev.unacked += waits[0];
	op->unacked = waits[0] + waits[1];
	user_phase_release(u, op);
	op->phase = USER_LEAVING;
	if (op->record)
		u->book->note(op);
	op->moved = u->now;
	op->drain_ms = 0;
	user_phase_look_later(u, op);
	TAILQ_INSERT_TAIL(&u->done, op, done);
}

/* The program wants no more of it. Its event comes with the next collection. */
void user_leave(struct user *u, struct user_op *op)
{
	bool through = try(u, op);

	if (op->phase == USER_ENDED)
		return;
	if (through)
		user_phase_end(u, op, SPL_CANCELED, 0);
	else
		depart(u, op);
}

/* The timer of one that leaves has come. */
void user_leave_timed(struct user *u, struct user_op *op)
{
	uint32_t waits;

	if (try(u, op)) {
		left(u, op);
		return;
	}
	waits = waiting(u, op);
	if (waits != op->unacked)
		op->moved = u->now;
	op->unacked = waits;
	if (u->now - op->moved >= MOST_MS)
		give_up(u, op);
	else
		user_phase_look_later(u, op);
}

/* The context closes. */
void user_leave_all(struct user *u)
{
	struct user_op *op;

	while ((op = TAILQ_FIRST(&u->leaving))) {
		if (u->pid == getpid()) {
			give_up(u, op);
			continue;
		}
		TAILQ_REMOVE(&u->leaving, op, done);
		user_op_disown(u, op);
	}
}

/* Before its sockets are given back, all has to be through. True: it is. The flows are the engine's from here on. */
bool user_leave_kernel(struct user *u, struct user_op *op)
{
	bool through = try(u, op);
	unsigned int i;

	/* what was not offered to the kernel yet must not be while the engine settles it */
	op->kernel = false;
	for (i = 0; i < op->flows && op->phase != USER_ENDED; i++)
		user_flow_queue(u, &op->flow[i]);
	return through;
}
