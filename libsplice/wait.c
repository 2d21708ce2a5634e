// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Waiting: the one descriptor of a context, and time-outs that outlast signals. */
#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "probe.h"

static int watch(struct spl *s, int fd)
{
	struct epoll_event want = { .events = EPOLLIN };

	return epoll_ctl(s->poll_fd, EPOLL_CTL_ADD, fd, &want) ? -errno : 0;
}

/* The engine is open. On failure nothing is left but what spl_wait_close() closes. */
int spl_wait_open(struct spl *s)
{
	int r;

	s->poll_fd = s->ops->epolls ? s->engine_fd : epoll_create1(EPOLL_CLOEXEC);
	if (s->poll_fd < 0)
		return -errno;
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake_fd < 0)
		return -errno;
	r = s->ops->epolls ? 0 : watch(s, s->engine_fd);
	return r ? r : watch(s, s->wake_fd);
}

void spl_wait_close(struct spl *s)
{
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	if (s->poll_fd >= 0 && s->poll_fd != s->engine_fd)
		close(s->poll_fd);
}

/*
 * For splicectl: from now on spl_next() and spl_wait() return, with 0, also when fd is readable. A
 * loop that waits in spl_next() for both saves what an epoll set within another one costs each message.
 */
int spl_also(struct spl *s, int fd)
{
	struct epoll_event want = { .events = EPOLLIN, .data.ptr = &s->also_fd };
	SPL_ERRNO_GUARD;

	if (s->also_fd >= 0)
		return -EBUSY;
	if (s->ops->epolls && epoll_ctl(s->poll_fd, EPOLL_CTL_ADD, fd, &want))
		return -errno;
	s->also_fd = fd;
	return 0;
}

/* For splicectl, whose events all come from the engine: none is queued by a call. */
int spl_own_fd(const struct spl *s)
{
	return s->ops->epolls ? -1 : s->engine_fd;
}

/* Events that were read with another one, or are still to be asked for. */
int spl_pending(const struct spl *s)
{
	return s->queue.first || s->behind;
}

/* For splicectl, which knows the options of the sockets that it has made itself: see probe.h. */
void spl_plain(struct spl *s)
{
	s->plain = true;
}

/* For splicectl, which does not wait for the end of a pair: see probe.h. */
void spl_lazy(struct spl *s)
{
	s->lazy = true;
}

/* Called when the queue may have changed: spl_fd() is readable while events wait in it. */
void spl_wait_signal(struct spl *s)
{
	bool want = s->queue.first || s->behind;

	if (want == s->awake)
		return;
	if (want ? !eventfd_write(s->wake_fd, 1) : !eventfd_read(s->wake_fd, &(eventfd_t){ 0 }))
		s->awake = want;
}

/* Before an engine waits on the descriptor itself: it is not woken by events that wait to be read. */
void spl_wait_quiet(struct spl *s)
{
	if (s->awake && !eventfd_read(s->wake_fd, &(eventfd_t){ 0 }))
		s->awake = false;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* How long to wait at most: 0 when the time is over, -1 for ever. */
static int left_of(int timeout_ms, int64_t deadline)
{
	int64_t left;

	if (timeout_ms <= 0)
		return timeout_ms < 0 ? -1 : 0;
	left = deadline - now_ms();
	if (left <= 0)
		return 0;
	return left > INT_MAX ? INT_MAX : (int)left;
}

/* The event of wanted, or with NULL the oldest one: 1 and *ev, 0 when none came in time. */
int spl_wait_event(struct spl *s, struct spl_op *wanted, struct spl_event *ev, int timeout_ms)
{
	/* One more: the clock's millisecond may be nearly over, and a wait is never shorter than asked. */
	int64_t deadline = timeout_ms > 0 ? now_ms() + timeout_ms + 1 : 0;
	struct spl_op *op;
	int left, r;

	for (;;) {
		op = wanted ? wanted : s->queue.first;
		if (op && op->ended) {
			spl_op_read(s, op, ev);
			return 1;
		}
		if (s->also_ready) {
			s->also_ready = false;
			return 0;
		}
		left = left_of(timeout_ms, deadline);
		r = s->ops->collect(s, left);
		if (r < 0)
			return r;
		if (!r && !left)
			return 0;
	}
}
