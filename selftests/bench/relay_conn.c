// SPDX-License-Identifier: GPL-2.0
/* relay_conn.c: connections of the relays to compare with. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay.h"

#define ACCEPTS 64

static TAILQ_HEAD(conns, conn) queued = TAILQ_HEAD_INITIALIZER(queued), dead = TAILQ_HEAD_INITIALIZER(dead);
static bool hurry;	/* one of the queued wants to go on at once */

/* Freed after the batch of events: a later one of them may point to it. */
static void conn_close(struct conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	mover->release(&c->up);
	mover->release(&c->down);
	close(c->client.fd);
	close(c->server.fd);
	if (c->queued)
		TAILQ_REMOVE(&queued, c, next);
	TAILQ_INSERT_TAIL(&dead, c, next);
}

void conn_bury(void)
{
	struct conn *c;

	while ((c = TAILQ_FIRST(&dead))) {
		TAILQ_REMOVE(&dead, c, next);
		free(c);
	}
}

static void conn_reset(struct conn *c)
{
	struct linger linger = { .l_onoff = 1 };

	setsockopt(c->client.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	setsockopt(c->server.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	conn_close(c);
}

/* The second to be over needs no shutdown: closing does it. */
static void finish(struct way *w, struct way *other)
{
	w->over = true;
	if (!other->over)
		shutdown(w->to->fd, SHUT_WR);
}

/* false: the connection is gone */
static bool run_way(struct conn *c, struct way *w, struct way *other, bool *more)
{
	enum moved moved;

	if (w->over || !(w->held ? w->to->writable : w->from->readable))
		return true;
	moved = mover->move(w);
	if (moved == MOVED_FAILED) {
		conn_reset(c);
		return false;
	}
	if (w->last && !w->held && moved != MOVED_LATER)
		finish(w, other);
	else if (moved != MOVED_ALL)
		*more = true;
	hurry |= *more && moved == MOVED_MORE;
	return true;
}

static void conn_run(struct conn *c)
{
	bool more = false;

	if (mover->begin && !mover->begin(c))
		return;
	if (!run_way(c, &c->up, &c->down, &more) || !run_way(c, &c->down, &c->up, &more))
		return;
	if (c->up.over && c->down.over) {
		conn_close(c);
		return;
	}
	if (more == c->queued)
		return;
	c->queued = more;
	if (more)
		TAILQ_INSERT_TAIL(&queued, c, next);
	else
		TAILQ_REMOVE(&queued, c, next);
}

void conn_event(struct end *e, uint32_t events)
{
	struct conn *c = e->conn;

	if (c->dead)
		return;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		e->readable = true;
	if (events & (EPOLLOUT | EPOLLERR))
		e->writable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		e->hangup = true;
	conn_run(c);
}

/* One turn for each that is queued. */
int conn_run_queued(void)
{
	struct conn *last = TAILQ_LAST(&queued, conns), *c;

	hurry = false;
	while ((c = TAILQ_FIRST(&queued))) {
		TAILQ_REMOVE(&queued, c, next);
		c->queued = false;
		conn_run(c);
		if (c == last)
			break;
	}
	return TAILQ_EMPTY(&queued) ? -1 : hurry ? 0 : 1;
}

static bool watch(int epoll, struct end *e)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = e };

	return !epoll_ctl(epoll, EPOLL_CTL_ADD, e->fd, &ev);
}

static void conn_new(int epoll, int client, int server)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c) {
		close(client);
		close(server);
		return;
	}
	c->client = (struct end){ .fd = client, .conn = c };
	c->server = (struct end){ .fd = server, .conn = c };
	c->up = (struct way){ .from = &c->client, .to = &c->server };
	c->down = (struct way){ .from = &c->server, .to = &c->client };
	/* the first look at each tells what has happened since */
	if (!watch(epoll, &c->client) || !watch(epoll, &c->server))
		conn_close(c);
}

static int dial(void)
{
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (!connect(fd, (struct sockaddr *)&relay_target, sizeof(relay_target)) || errno == EINPROGRESS)
		return fd;
	close(fd);
	return -1;
}

void conn_accept(int epoll, int listener)
{
	int i, client, server;

	for (i = 0; i < ACCEPTS; i++) {
		client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client < 0)
			return;
		server = dial();
		if (server < 0)
			close(client);
		else
			conn_new(epoll, client, server);
	}
}
