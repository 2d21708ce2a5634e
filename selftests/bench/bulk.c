// SPDX-License-Identifier: GPL-2.0
/*
 * bulk.c: one way, as much as goes. The server throws it away uncopied (MSG_TRUNC), so the relay is what is measured; or it reads, as
 * programs do, and as it must what a sockmap has redirected to it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define GULP (1 << 20)
#define EVENTS 64
#define CONNS 64

static bool stopped(struct job *job)
{
	return atomic_load_explicit(&job->sh->phase, memory_order_relaxed) == PHASE_STOP;
}

/* The client's last write, or what the server has just read, may be what the parent waits for. */
static void look_drained(struct shared *sh)
{
	if (!atomic_load(&sh->paused) || atomic_load(&sh->sent) != atomic_load(&sh->received))
		return;
	if (!atomic_exchange(&sh->paused, false))
		return;
	sh->drained_ns = now_ns();
	sem_post(&sh->drained);
}

static void pause_client(struct shared *sh)
{
	atomic_store(&sh->paused, true);
	look_drained(sh);
	sem_wait(&sh->go);
}

/* false: the end */
static bool gulp(struct job *job, int fd)
{
	static char buf[GULP];
	ssize_t n = job->reads ? recv(fd, buf, sizeof(buf), 0) : recv(fd, NULL, GULP, MSG_TRUNC);

	if (n < 0)
		die(job, "recv: %s", errno == EAGAIN ? "nothing came" : strerror(errno));
	atomic_fetch_add_explicit(&job->sh->done, (uint64_t)n, memory_order_relaxed);
	atomic_fetch_add_explicit(&job->sh->received, (uint64_t)n, memory_order_relaxed);
	look_drained(job->sh);
	return n > 0;
}

static void watch_fd(struct job *job, int epoll, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.fd = fd };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev))
		die(job, "epoll: %s", strerror(errno));
}

static void server(struct job *job)
{
	struct epoll_event ev[EVENTS];
	int epoll = epoll_create1(0), fd = -1, n;
	unsigned int i, open;

	for (i = 0; i < job->conns; i++) {
		fd = accept_one(job);
		watch_fd(job, epoll, fd, EPOLLIN);
		atomic_fetch_add(&job->sh->ready, 1);
	}
	if (job->conns == 1) {
		while (gulp(job, fd))
			;
		close(fd);
		return;
	}
	for (open = job->conns; open;) {
		n = epoll_wait(epoll, ev, EVENTS, LOAD_PATIENCE_S * 1000);
		if (n <= 0)
			die(job, "nothing came");
		while (n--)
			if (!gulp(job, ev[n].data.fd)) {
				close(ev[n].data.fd);
				open--;
			}
	}
}

static void push(struct job *job, int fd)
{
	static const char buf[LOAD_WRITE] = "x";
	ssize_t n = send(fd, buf, job->write, MSG_NOSIGNAL);

	if (n > 0)
		atomic_fetch_add_explicit(&job->sh->sent, (uint64_t)n, memory_order_relaxed);
	else if (errno != EAGAIN || job->conns == 1)
		die(job, "send: %s", errno == EAGAIN ? "nothing is taken" : strerror(errno));
}

static void push_many(struct job *job, int epoll)
{
	struct epoll_event ev[EVENTS];
	int n;

	while (!stopped(job)) {
		n = epoll_wait(epoll, ev, EVENTS, LOAD_PATIENCE_S * 1000);
		if (n <= 0)
			die(job, "nothing is taken");
		while (n--)
			push(job, ev[n].data.fd);
	}
}

/* The other end has read everything when its own end comes back. */
static void finish(struct job *job, int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char c;

	fcntl(fd, F_SETFL, 0);
	/* of a socket in a sockmap recv() alone would also return when there is room to send */
	poll(&pfd, 1, LOAD_PATIENCE_S * 1000);
	if (recv(fd, &c, 1, 0))
		die(job, "the end does not come back: %s", strerror(errno));
}

static void client(struct job *job)
{
	int epoll = epoll_create1(0), fds[CONNS];
	unsigned int i;

	if (job->conns > CONNS)
		die(job, "too many connections");
	for (i = 0; i < job->conns; i++) {
		fds[i] = connect_to(job, i);
		if (job->conns > 1)
			fcntl(fds[i], F_SETFL, O_NONBLOCK);
		watch_fd(job, epoll, fds[i], EPOLLOUT);
	}
	while (job->conns == 1 && !stopped(job)) {
		if (atomic_load_explicit(&job->sh->phase, memory_order_relaxed) == PHASE_DRAIN)
			pause_client(job->sh);
		push(job, fds[0]);
	}
	if (job->conns > 1)
		push_many(job, epoll);
	for (i = 0; i < job->conns; i++)
		shutdown(fds[i], SHUT_WR);
	for (i = 0; i < job->conns; i++)
		finish(job, fds[i]);
}

const struct mode bulk_mode = { .name = "bulk", .server = server, .client = client, .watch = watch_rate };
