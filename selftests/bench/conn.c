// SPDX-License-Identifier: GPL-2.0
/* conn.c: connect, one round trip, close, and again; so many at a time. The client closes first. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define EVENTS 64

struct visit {
	int fd;
	size_t got;
	uint64_t stamp, began;
	bool asked;		/* the message is on its way */
};

struct visitor {
	struct job *job;
	int epoll;
	uint64_t visits;
	char *buf;
};

/* On loopback a connection is there when connect() returns, except where the backlog is full. */
static bool ask(struct visitor *v, struct visit *t)
{
	ssize_t n;

	memcpy(v->buf, &t->stamp, sizeof(t->stamp));
	n = send(t->fd, v->buf, v->job->size, MSG_NOSIGNAL);
	t->asked = n == (ssize_t)v->job->size;
	if (!t->asked && errno != EAGAIN)
		die(v->job, "send: %s", n < 0 ? strerror(errno) : "in part");
	return t->asked;
}

static void begin(struct visitor *v, struct visit *t)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = t };

	*t = (struct visit){ .began = now_ns(), .stamp = v->visits };
	t->fd = start_connect(v->job, (unsigned int)v->visits++);
	if (!ask(v, t))
		ev.events = EPOLLOUT;
	if (epoll_ctl(v->epoll, EPOLL_CTL_ADD, t->fd, &ev))
		die(v->job, "epoll: %s", strerror(errno));
}

static void count(struct job *job, uint64_t ns)
{
	struct shared *sh = job->sh;

	atomic_store_explicit(&sh->done, sh->done + 1, memory_order_relaxed);
	if (atomic_load_explicit(&sh->phase, memory_order_relaxed) == PHASE_MEASURE && sh->n_samples < LOAD_SAMPLES)
		sh->samples[sh->n_samples++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static void connected(struct visitor *v, struct visit *t)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = t };

	if (ask(v, t))
		epoll_ctl(v->epoll, EPOLL_CTL_MOD, t->fd, &ev);
}

/* true: the visit is over */
static bool answered(struct visitor *v, struct visit *t)
{
	ssize_t n = recv(t->fd, v->buf + t->got, v->job->size - t->got, 0);

	if (n <= 0)
		die(v->job, "no reply: %s", n ? strerror(errno) : "end of stream");
	if (!t->got && (n < (ssize_t)sizeof(t->stamp) || memcmp(v->buf, &t->stamp, sizeof(t->stamp))))
		die(v->job, "a reply is not what was sent");
	t->got += (size_t)n;
	return t->got == v->job->size;
}

static void ready(struct visitor *v, struct visit *t)
{
	if (!t->asked) {
		connected(v, t);
		return;
	}
	if (!answered(v, t))
		return;
	close(t->fd);
	count(v->job, now_ns() - t->began);
	begin(v, t);
}

static void client(struct job *job)
{
	struct visitor v = { .job = job, .epoll = epoll_create1(0), .buf = calloc(1, job->size) };
	struct visit *visits = calloc(job->conns, sizeof(*visits));
	struct epoll_event ev[EVENTS];
	unsigned int i;
	int n;

	if (!v.buf || !visits || v.epoll < 0)
		die(job, "out of memory");
	for (i = 0; i < job->conns; i++)
		begin(&v, &visits[i]);
	atomic_store(&job->sh->ready, job->conns);
	while (atomic_load_explicit(&job->sh->phase, memory_order_relaxed) != PHASE_STOP) {
		n = epoll_wait(v.epoll, ev, EVENTS, LOAD_PATIENCE_S * 1000);
		if (n <= 0)
			die(job, "no reply in time");
		while (n--)
			ready(&v, ev[n].data.ptr);
	}
}

const struct mode conn_mode = { .name = "conn", .server = echo_server, .client = client, .watch = watch_rate };
