// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * When operations are to be looked at again: a heap, and one timerfd set to the earliest. An
 * idle limit is not moved with each byte: it is looked at when it would have come.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "user.h"

#define FIRST_ROOM 64

uint64_t user_timer_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int open_timerfd(struct user *u)
{
	struct epoll_event want = { .events = EPOLLIN | EPOLLET, .data.ptr = &u->timerfd };
	int fd;

	if (u->timerfd >= 0)
		return 0;
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (epoll_ctl(u->epoll, EPOLL_CTL_ADD, fd, &want)) {
		int error = errno;

		close(fd);
		return -error;
	}
	u->timerfd = fd;
	return 0;
}

/* Room for one operation's timer, so that setting it cannot fail. */
int user_timer_reserve(struct user *u)
{
	uint32_t room = u->timers_room ? u->timers_room * 2 : FIRST_ROOM;
	struct user_op **bigger;
	int r = open_timerfd(u);

	if (r)
		return r;
	/* the first place is not used */
	if (u->timers_reserved + 1 >= u->timers_room) {
		bigger = realloc(u->timers, room * sizeof(struct user_op *));
		if (!bigger)
			return -ENOMEM;
		u->timers = bigger;
		u->timers_room = room;
	}
	u->timers_reserved++;
	return 0;
}

void user_timer_unreserve(struct user *u)
{
	u->timers_reserved--;
}

static void put(struct user *u, uint32_t place, struct user_op *op)
{
	u->timers[place] = op;
	op->timer.place = place;
}

static void up(struct user *u, uint32_t place, struct user_op *op)
{
	for (; place > 1 && u->timers[place / 2]->timer.due > op->timer.due; place /= 2)
		put(u, place, u->timers[place / 2]);
	put(u, place, op);
}

static void down(struct user *u, uint32_t place, struct user_op *op)
{
	uint32_t child;

	while ((child = place * 2) <= u->timers_len) {
		if (child < u->timers_len && u->timers[child + 1]->timer.due < u->timers[child]->timer.due)
			child++;
		if (u->timers[child]->timer.due >= op->timer.due)
			break;
		put(u, place, u->timers[child]);
		place = child;
	}
	put(u, place, op);
}

void user_timer_stop(struct user *u, struct user_op *op)
{
	uint32_t place = op->timer.place;
	struct user_op *last;

	if (!place)
		return;
	op->timer.place = 0;
	last = u->timers[u->timers_len--];
	if (last == op)
		return;
	if (place > 1 && u->timers[place / 2]->timer.due > last->timer.due)
		up(u, place, last);
	else
		down(u, place, last);
}

/* Room was reserved when the operation was made. */
void user_timer_set(struct user *u, struct user_op *op, uint64_t due)
{
	user_timer_stop(u, op);
	op->timer.due = due;
	up(u, ++u->timers_len, op);
}

/* Looks at all whose time has come. */
void user_timer_run(struct user *u)
{
	struct user_op *op;

	while (u->timers_len && u->timers[1]->timer.due <= u->now) {
		op = u->timers[1];
		user_timer_stop(u, op);
		user_phase_timed(u, op);
	}
}

/*
 * Sets the timerfd to the earliest, unless it wakes us before that anyway; its event comes once, and nobody reads it. For
 * nothing it wakes us where that is rare: not where every splice has a timer.
 */
void user_timer_arm(struct user *u)
{
	uint64_t due = u->timers_len ? u->timers[1]->timer.due : 0;
	struct itimerspec at = { 0 };

	if (u->timerfd < 0 || (u->alarm > u->now && (due ? u->alarm <= due : !u->mover)) || due == u->alarm)
		return;
	at.it_value.tv_sec = (time_t)(due / 1000);
	at.it_value.tv_nsec = (long)(due % 1000 * 1000000);
	timerfd_settime(u->timerfd, TFD_TIMER_ABSTIME, &at, NULL);
	u->alarm = due;
}
