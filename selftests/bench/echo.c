// SPDX-License-Identifier: GPL-2.0
/* echo.c: the server of all round trips: sends every whole message back. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define EVENTS 256
#define FDS 20000

/* A message that came in parts; indexed by descriptor. */
struct part { size_t got; char *buf; };

struct echo {
	struct job *job;
	int epoll;
	unsigned int open;
	bool came;			/* anybody yet */
	char *buf;
	struct part part[FDS];
};

static void drop(struct echo *e, int fd)
{
	struct part *p = &e->part[fd];

	free(p->buf);
	*p = (struct part){ 0 };
	close(fd);
	e->open--;
}

/* Behind what came before: rare enough to copy. */
static void put_by(struct echo *e, struct part *p, size_t n)
{
	size_t size = e->job->size;

	if (!p->buf)
		p->buf = malloc(size);
	if (!p->buf)
		die(e->job, "out of memory");
	memcpy(p->buf + p->got, e->buf, n);
	p->got += n;
	if (p->got < size)
		return;
	memcpy(e->buf, p->buf, size);
	free(p->buf);
	*p = (struct part){ 0 };
}

static void readable(struct echo *e, int fd)
{
	struct part *p = &e->part[fd];
	size_t size = e->job->size;
	ssize_t n = recv(fd, e->buf, size - p->got, 0);

	/* the client says what was lost: a reset behind the last reply loses nothing */
	if (n <= 0) {
		drop(e, fd);
		return;
	}
	if (p->got || (size_t)n < size) {
		put_by(e, p, (size_t)n);
		if (p->buf)
			return;
	}
	if (!send_all(e->job, fd, e->buf, size))
		drop(e, fd);
}

static void accept_all(struct echo *e, int listener)
{
	struct epoll_event ev = { .events = EPOLLIN };

	while ((ev.data.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		if (ev.data.fd >= FDS || epoll_ctl(e->epoll, EPOLL_CTL_ADD, ev.data.fd, &ev))
			die(e->job, "server: too many connections");
		e->open++;
		e->came = true;
	}
	if (errno != EAGAIN && errno != ECONNABORTED)
		die(e->job, "accept: %s", strerror(errno));
}

static void serve_many(struct echo *e)
{
	struct job *job = e->job;
	struct epoll_event ev[EVENTS];
	unsigned int i;
	int n;

	for (i = 0; i < job->n_listen; i++) {
		ev[0] = (struct epoll_event){ .events = EPOLLIN, .data.fd = job->listeners[i] };
		fcntl(job->listeners[i], F_SETFL, O_NONBLOCK);
		epoll_ctl(e->epoll, EPOLL_CTL_ADD, job->listeners[i], &ev[0]);
	}
	while (atomic_load(&job->sh->phase) != PHASE_STOP || e->open) {
		n = epoll_wait(e->epoll, ev, EVENTS, 20);
		while (n-- > 0) {
			/* the listeners are the oldest descriptors */
			if (ev[n].data.fd <= job->listeners[job->n_listen - 1])
				accept_all(e, ev[n].data.fd);
			else
				readable(e, ev[n].data.fd);
		}
	}
}

/* No epoll for one: the lightest there is. */
static void serve_one(struct echo *e)
{
	int fd = accept_one(e->job);

	for (e->open = 1; e->open;)
		readable(e, fd);
}

void echo_server(struct job *job)
{
	struct echo *e = calloc(1, sizeof(*e));

	if (e)
		*e = (struct echo){ .job = job, .epoll = epoll_create1(0), .buf = malloc(job->size) };
	if (!e || !e->buf || e->epoll < 0)
		die(job, "out of memory");
	if (job->mode == &rr_mode && job->conns == 1)
		serve_one(e);
	else
		serve_many(e);
}
