// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * Sinks whose peer has as many redirected bytes as it may. Nobody tells when it has read some, so it is looked at: soon, as it
 * mostly reads faster than it is sent to, then less and less often. If it does not read at all TCP gets the rest, and tells: late
 * where TCP would have to drop it, but then all the same, as only TCP knows of TCP_USER_TIMEOUT and lets the processor rest. Nothing is
 * read from the source meanwhile, and nothing is added to what waits.
 *
 * A heap by when each is due, and one timerfd set to the first.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "sockmap.h"

#define FIRST_US	100u
#define PATIENCE_US	500000u
#define MOST_PATIENCE_US	4000000u	/* where TCP has no room */
#define SLOWER		32		/* the next look comes after this part of the time waited */

struct wait {
	struct user_sock *sock;		/* sock->wait is the place here */
	uint64_t since, due;		/* us */
};

/* Of a context. */
struct sockmap_waits {
	int timerfd;
	uint32_t n, space;
	struct wait at[];		/* from 1 to n */
};

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t next_look(uint64_t since, uint64_t now)
{
	uint64_t us = (now - since) / SLOWER;

	return now + (us < FIRST_US ? FIRST_US : us);
}

/* ---- the heap */

static void put(struct sockmap_waits *w, uint32_t place, const struct wait *wait)
{
	w->at[place] = *wait;
	wait->sock->wait = place;
}

/* It goes where it belongs, from this place that is free. */
static void settle(struct sockmap_waits *w, uint32_t place, struct wait wait)
{
	uint32_t child;

	for (; place > 1 && w->at[place / 2].due > wait.due; place /= 2)
		put(w, place, &w->at[place / 2]);
	for (; (child = place * 2) <= w->n; place = child) {
		child += child < w->n && w->at[child + 1].due < w->at[child].due;
		if (w->at[child].due >= wait.due)
			break;
		put(w, place, &w->at[child]);
	}
	put(w, place, &wait);
}

/* ---- the timer */

static void set_timer(const struct sockmap_waits *w)
{
	struct itimerspec at = { 0 };

	at.it_value.tv_sec = (time_t)(w->at[1].due / 1000000);
	at.it_value.tv_nsec = (long)(w->at[1].due % 1000000) * 1000;
	timerfd_settime(w->timerfd, TFD_TIMER_ABSTIME, &at, NULL);
}

static bool open_timer(struct user *u, struct sockmap_waits *w)
{
	struct epoll_event want = { .events = EPOLLIN | EPOLLET, .data.ptr = &u->waits };

	w->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (w->timerfd >= 0 && !epoll_ctl(u->epoll, EPOLL_CTL_ADD, w->timerfd, &want))
		return true;
	if (w->timerfd >= 0)
		close(w->timerfd);
	return false;
}

static bool grow(struct user *u)
{
	struct sockmap_waits *old = u->waits, *w;
	uint32_t space = old ? old->space * 2 : 8;

	if (old && old->n < old->space)
		return true;
	w = realloc(old, sizeof(*w) + ((size_t)space + 1) * sizeof(w->at[0]));
	if (!w)
		return false;
	w->space = space;
	if (!old) {
		w->n = 0;
		if (!open_timer(u, w)) {
			free(w);
			return false;
		}
	}
	u->waits = w;
	return true;
}

/* ---- waiting */

/* False: it cannot wait. */
bool sockmap_wait_begin(struct user_sock *sock)
{
	struct user *u = sock->user;
	uint64_t now;

	if (!grow(u))
		return false;
	now = now_us();
	settle(u->waits, ++u->waits->n, (struct wait){ sock, now, next_look(now, now) });
	if (sock->wait == 1)
		set_timer(u->waits);
	return true;
}

/* The timer may come for nobody. */
void sockmap_wait_end(struct user_sock *sock)
{
	struct sockmap_waits *w = sock->user->waits;
	struct wait last = w->at[w->n--];

	if (last.sock != sock)
		settle(w, sock->wait, last);
	sock->wait = 0;
}

static bool may_go_on(const struct wait *wait, uint64_t now)
{
	uint64_t waited = now - wait->since;

	/* asked first: it may be we who did not get to look for so long */
	wait->sock->room = sockmap_hop_ask(wait->sock, LOCAL_ASK);
	if (!wait->sock->room && waited >= PATIENCE_US)
		wait->sock->room = sockmap_hop_ask(wait->sock, waited < MOST_PATIENCE_US ? LOCAL_YIELD : LOCAL_GIVE_UP);
	return wait->sock->room;
}

/* Looks at the peers whose turn it is, at each once. */
void sockmap_wait_tick(struct user *u)
{
	struct sockmap_waits *w = u->waits;
	uint64_t now = now_us();
	struct user_sock *sock;
	struct wait wait;

	while (w->n && w->at[1].due <= now) {
		wait = w->at[1];
		sock = wait.sock;
		if (!may_go_on(&wait, now)) {
			wait.due = next_look(wait.since, now);
			settle(w, 1, wait);
			continue;
		}
		sockmap_wait_end(sock);
		sock->ready |= USER_WRITABLE;
		if (sock->tx)
			user_flow_queue(u, sock->tx);
	}
	if (w->n)
		set_timer(w);
}

void sockmap_wait_free(struct sockmap_waits *w)
{
	if (w)
		close(w->timerfd);
	free(w);
}
