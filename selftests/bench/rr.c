// SPDX-License-Identifier: GPL-2.0
/* rr.c: round trips, each connection with one message under way; every message is stamped at both ends. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define EVENTS 64

struct trip {
	int fd;
	size_t got;
	uint64_t stamp, began;
	char *buf;
};

static void send_next(struct job *job, struct trip *t, uint64_t now)
{
	t->stamp += 1ull << 32;
	t->got = 0;
	t->began = now;
	memcpy(t->buf, &t->stamp, sizeof(t->stamp));
	memcpy(t->buf + job->size - sizeof(t->stamp), &t->stamp, sizeof(t->stamp));
	send_all(job, t->fd, t->buf, job->size);
}

static void check(struct job *job, const struct trip *t)
{
	if (memcmp(t->buf, &t->stamp, sizeof(t->stamp)) ||
	    memcmp(t->buf + job->size - sizeof(t->stamp), &t->stamp, sizeof(t->stamp)))
		die(job, "a reply is not what was sent");
}

static void count(struct job *job, uint64_t ns)
{
	struct shared *sh = job->sh;

	atomic_store_explicit(&sh->done, sh->done + 1, memory_order_relaxed);
	if (atomic_load_explicit(&sh->phase, memory_order_relaxed) == PHASE_MEASURE && sh->n_samples < LOAD_SAMPLES)
		sh->samples[sh->n_samples++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

/* A part of the reply has come; the whole of it: counts it and goes on. */
static void receive(struct job *job, struct trip *t)
{
	ssize_t n = recv(t->fd, t->buf + t->got, job->size - t->got, 0);
	uint64_t now;

	if (n <= 0)
		die(job, "no reply: %s", !n ? "end of stream" : errno == EAGAIN ? "none in time" : strerror(errno));
	t->got += (size_t)n;
	if (t->got < job->size)
		return;
	now = now_ns();
	check(job, t);
	count(job, now - t->began);
	send_next(job, t, now);
}

static bool stopped(struct job *job)
{
	return atomic_load_explicit(&job->sh->phase, memory_order_relaxed) == PHASE_STOP;
}

static void client(struct job *job)
{
	struct trip *trips = calloc(job->conns, sizeof(*trips)), *t;
	struct epoll_event ev[EVENTS];
	int epoll = epoll_create1(0), n;

	if (!trips || epoll < 0)
		die(job, "out of memory");
	for (t = trips; t < trips + job->conns; t++) {
		*t = (struct trip){ .fd = connect_to(job, (unsigned int)(t - trips)), .stamp = (uint64_t)(t - trips),
				    .buf = calloc(1, job->size) };
		ev[0] = (struct epoll_event){ .events = EPOLLIN, .data.ptr = t };
		if (!t->buf || epoll_ctl(epoll, EPOLL_CTL_ADD, t->fd, &ev[0]))
			die(job, "out of memory");
		send_next(job, t, now_ns());
		atomic_fetch_add(&job->sh->ready, 1);
	}
	while (job->conns == 1 && !stopped(job))
		receive(job, trips);
	while (!stopped(job)) {
		n = epoll_wait(epoll, ev, EVENTS, LOAD_PATIENCE_S * 1000);
		if (n <= 0)
			die(job, "no reply in time");
		while (n--)
			receive(job, ev[n].data.ptr);
	}
}

const struct mode rr_mode = { .name = "rr", .server = echo_server, .client = client, .watch = watch_rate };
