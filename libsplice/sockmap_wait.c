// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * Sinks whose peer has as many redirected bytes as it may. Nobody tells when it has read some, so it is looked at: soon, as it
 * mostly reads faster than it is sent to, then less and less often. If it does not read at all TCP gets the rest, and tells.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "sockmap.h"

#define FIRST_US	100u
#define MOST_US		50000u
#define PATIENCE_US	500000u
#define SLOWER		32		/* the next look comes after this part of the time waited */

struct wait {
	struct user_sock *sock;
	uint64_t since;			/* us */
};

/* Of a context. */
struct sockmap_waits {
	int timerfd;
	size_t n, space;
	struct wait at[];
};

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void set_timer(const struct sockmap_waits *w, uint64_t now)
{
	uint64_t us = MOST_US, next;
	struct itimerspec at = { 0 };
	size_t i;

	for (i = 0; i < w->n; i++) {
		next = (now - w->at[i].since) / SLOWER;
		us = next < us ? next : us;
	}
	us = us < FIRST_US ? FIRST_US : us;
	at.it_value.tv_nsec = (long)us * 1000;
	timerfd_settime(w->timerfd, 0, &at, NULL);
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
	size_t space = old ? old->space * 2 : 8;

	if (old && old->n < old->space)
		return true;
	w = realloc(old, sizeof(*w) + space * sizeof(w->at[0]));
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

/* False: it cannot wait. */
bool sockmap_wait_begin(struct user_sock *sock)
{
	struct user *u = sock->user;

	if (!grow(u))
		return false;
	u->waits->at[u->waits->n++] = (struct wait){ sock, now_us() };
	sock->waits = true;
	/* who has begun to wait is looked at soonest */
	set_timer(u->waits, u->waits->at[u->waits->n - 1].since);
	return true;
}

void sockmap_wait_end(struct user_sock *sock)
{
	struct sockmap_waits *w = sock->user->waits;
	size_t i;

	for (i = 0; w->at[i].sock != sock; i++)
		;
	w->at[i] = w->at[--w->n];
	sock->waits = false;
}

static bool may_go_on(const struct wait *wait, uint64_t now)
{
	/* asked first: it may be we who did not get to look for so long */
	wait->sock->room = sockmap_hop_ask(wait->sock, LOCAL_ASK);
	if (!wait->sock->room && now - wait->since >= PATIENCE_US)
		wait->sock->room = sockmap_hop_ask(wait->sock, LOCAL_YIELD);
	return wait->sock->room;
}

/* Looks at all peers. */
void sockmap_wait_tick(struct user *u)
{
	struct sockmap_waits *w = u->waits;
	uint64_t now = now_us();
	struct user_sock *sock;
	size_t i = 0;

	while (i < w->n) {
		sock = w->at[i].sock;
		if (!may_go_on(&w->at[i], now)) {
			i++;
			continue;
		}
		sockmap_wait_end(sock);
		sock->ready |= USER_WRITABLE;
		if (sock->tx)
			user_flow_queue(u, sock->tx);
	}
	if (w->n)
		set_timer(w, now);
}

void sockmap_wait_free(struct sockmap_waits *w)
{
	if (w)
		close(w->timerfd);
	free(w);
}
