// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * sni_proxy: hands TLS connections to the server that they name, without ending TLS.
 *
 *   sni_proxy ADDR:PORT NAME=ADDR:PORT[,ADDR:PORT]... [*=ADDR:PORT...]
 *
 * The ClientHello is looked at with MSG_PEEK, so that it is still on the socket when the server is known, and when
 * a server has refused and the next one is tried. Each server is first told of the client by the PROXY protocol, version 2.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "sni_proxy.h"

#define HELLO_MS	5000
#define STARVED_MS	100
#define BATCH		64

static int watch(struct proxy *p, int fd, uint32_t events, void *ptr)
{
	struct epoll_event ev = { .events = events, .data.ptr = ptr };

	return epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &ev);
}

/* It is not waited for any more: a socket that is given to the library must not be in an epoll set of ours. */
static void unwatch(struct proxy *p, struct client *c)
{
	TAILQ_REMOVE(&p->waiting, c, waiting);
	epoll_ctl(p->epoll, EPOLL_CTL_DEL, c->fd, NULL);
}

static void refuse(struct proxy *p, struct client *c, const char *why)
{
	fprintf(stderr, "refused: %s\n", why);
	unwatch(p, c);
	client_free(c);
}

/* Edge-triggered: bytes that stay on the socket do not wake us again, more of them do. */
static void hello_came(struct proxy *p, struct client *c, uint32_t events)
{
	unsigned char hello[HELLO_MAX];
	char name[HELLO_NAME_MAX];
	const char *why = "no ClientHello";
	ssize_t n = recv(c->fd, hello, sizeof(hello), MSG_PEEK | MSG_DONTWAIT);
	enum hello verdict = n > 0 ? hello_parse(hello, (size_t)n, name, &why) : HELLO_MORE;

	if (verdict == HELLO_MORE && n == HELLO_MAX)
		refuse(p, c, "the ClientHello is longer than 16 KiB");
	else if (verdict == HELLO_MORE && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
		refuse(p, c, "the client left before its ClientHello was complete");
	else if (verdict == HELLO_BAD)
		refuse(p, c, why);
	if (verdict != HELLO_NAME)
		return;
	c->to = upstream_find(p->upstream, p->upstreams, name);
	if (!c->to) {
		refuse(p, c, "no server of that name");
		return;
	}
	unwatch(p, c);
	client_connect(p, c);
}

static void accept_clients(struct proxy *p)
{
	struct client *c;
	int fd;

	while ((fd = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		c = calloc(1, sizeof(*c));
		if (!c || watch(p, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, c)) {
			free(c);
			close(fd);
			continue;
		}
		c->fd = fd;
		c->server = -1;
		c->deadline = now_ms() + HELLO_MS;
		TAILQ_INSERT_TAIL(&p->waiting, c, waiting);
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
		epoll_ctl(p->epoll, EPOLL_CTL_DEL, p->listener, NULL);
		p->starved = now_ms() + STARVED_MS;
	}
}

/* What is due now; the milliseconds until the next thing is, -1: none. */
static int run_timers(struct proxy *p)
{
	uint64_t now = now_ms(), due = UINT64_MAX;
	struct client *c;

	while ((c = TAILQ_FIRST(&p->waiting)) && c->deadline <= now)
		refuse(p, c, "no complete ClientHello in 5 s");
	if (p->starved && p->starved <= now && !watch(p, p->listener, EPOLLIN, p))
		p->starved = 0;
	if (c)
		due = c->deadline;
	if (p->starved && p->starved < due)
		due = p->starved > now ? p->starved : now + STARVED_MS;
	return due == UINT64_MAX ? -1 : (int)(due - now);
}

/* One round. Nobody here frees the client of another event: those in this batch are waiting, and each is in it once. */
static int turn(struct proxy *p)
{
	struct epoll_event ready[BATCH];
	struct spl_event ev;
	int i, n = epoll_wait(p->epoll, ready, BATCH, run_timers(p));

	for (i = 0; i < n; i++) {
		if (ready[i].data.ptr == p)
			accept_clients(p);
		else if (ready[i].data.ptr)
			hello_came(p, ready[i].data.ptr, ready[i].events);
		else
			while (spl_next(p->spl, &ev, 0) == 1)
				client_ended(p, &ev);
	}
	return n < 0 && errno != EINTR ? -errno : 0;
}

int main(int argc, char **argv)
{
	struct proxy p = { .upstreams = (unsigned int)argc - 2, .waiting = TAILQ_HEAD_INITIALIZER(p.waiting) };
	int error = 0;

	if (argc < 3) {
		fprintf(stderr, "usage: sni_proxy ADDR:PORT NAME=ADDR:PORT[,ADDR:PORT]... [*=ADDR:PORT...]\n");
		return 2;
	}
	p.upstream = upstreams_parse(argv + 2, p.upstreams);
	p.spl = p.upstream ? open_context() : NULL;
	p.epoll = epoll_create1(EPOLL_CLOEXEC);
	p.listener = p.spl ? listen_on(argv[1], SOCK_NONBLOCK) : -1;
	if (p.listener < 0)
		return 1;
	if (watch(&p, p.listener, EPOLLIN, &p) || watch(&p, spl_fd(p.spl), EPOLLIN, NULL))
		error = -errno;
	while (!error)
		error = turn(&p);
	fprintf(stderr, "the loop ends: %s\n", strerror(-error));
	return 1;
}
