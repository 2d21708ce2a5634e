// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * tls_relay: ends TLS, and relays what was in it to a server without TLS.
 *
 *   tls_relay ADDR:PORT SERVER:PORT CERTIFICATE.pem KEY.pem
 *
 * OpenSSL makes the handshake. After it the kernel has the keys (kTLS), so that plain bytes come out of the client's socket and
 * go into it, and the library can have that as any other. A line on stderr for each client, when it was refused or has ended.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tls_relay.h"

#define STARVED_MS	100
#define BATCH		64

static int watch(struct relay *r, int fd, uint32_t events, void *ptr)
{
	struct epoll_event ev = { .events = events, .data.ptr = ptr };

	return epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &ev);
}

/* It is not waited for any more: a socket that is given to the library must not be in an epoll set of ours. */
static void unwatch(struct relay *r, struct client *c)
{
	TAILQ_REMOVE(&r->waiting, c, waiting);
	epoll_ctl(r->epoll, EPOLL_CTL_DEL, c->fd, NULL);
}

static void refuse(struct relay *r, struct client *c, const char *why)
{
	unwatch(r, c);
	client_refused(c, why);
	client_free(c);
}

static void handshake(struct relay *r, struct client *c)
{
	const char *why;

	if (client_greeted(c, &why)) {
		unwatch(r, c);
		client_relay(r, c);
	} else if (why) {
		refuse(r, c, why);
	}
}

/* Edge-triggered: OpenSSL has gone on as far as it could before we wait again. */
static void accept_clients(struct relay *r)
{
	struct client *c;
	int fd;

	while ((fd = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		c = client_new(r, fd);
		if (!c) {
			close(fd);
		} else if (watch(r, fd, EPOLLIN | EPOLLOUT | EPOLLET, c)) {
			client_free(c);
		} else {
			TAILQ_INSERT_TAIL(&r->waiting, c, waiting);
		}
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
		epoll_ctl(r->epoll, EPOLL_CTL_DEL, r->listener, NULL);
		r->starved = now_ms() + STARVED_MS;
	}
}

/* What is due now; the milliseconds until the next thing is, -1: none. */
static int run_timers(struct relay *r)
{
	uint64_t now = now_ms(), due = UINT64_MAX;
	struct client *c;

	while ((c = TAILQ_FIRST(&r->waiting)) && c->deadline <= now)
		refuse(r, c, "no complete handshake in 10 s");
	if (r->starved && r->starved <= now && !watch(r, r->listener, EPOLLIN, r))
		r->starved = 0;
	if (c)
		due = c->deadline;
	if (r->starved && r->starved < due)
		due = r->starved > now ? r->starved : now + STARVED_MS;
	return due == UINT64_MAX ? -1 : (int)(due - now);
}

/* One round. Nobody here frees the client of another event: those in this batch are waiting, and each is in it once. */
static int turn(struct relay *r)
{
	struct epoll_event ready[BATCH];
	struct spl_event ev;
	int i, n = epoll_wait(r->epoll, ready, BATCH, run_timers(r));

	for (i = 0; i < n; i++) {
		if (ready[i].data.ptr == r)
			accept_clients(r);
		else if (ready[i].data.ptr)
			handshake(r, ready[i].data.ptr);
		else
			while (spl_next(r->spl, &ev, 0) == 1)
				client_ended(&ev);
	}
	return n < 0 && errno != EINTR ? -errno : 0;
}

int main(int argc, char **argv)
{
	struct relay r = { .waiting = TAILQ_HEAD_INITIALIZER(r.waiting) };
	int error = 0;

	if (argc != 5 || addr_parse(argv[2], &r.to)) {
		fprintf(stderr, "usage: tls_relay ADDR:PORT SERVER:PORT CERTIFICATE.pem KEY.pem\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);	/* OpenSSL writes to sockets whose clients have gone */
	r.tls = tls_open(argv[3], argv[4]);
	r.spl = r.tls ? open_context() : NULL;
	r.epoll = epoll_create1(EPOLL_CLOEXEC);
	r.listener = r.spl ? listen_on(argv[1], SOCK_NONBLOCK) : -1;
	if (r.listener < 0)
		return 1;
	if (watch(&r, r.listener, EPOLLIN, &r) || watch(&r, spl_fd(r.spl), EPOLLIN, NULL))
		error = -errno;
	while (!error)
		error = turn(&r);
	fprintf(stderr, "the loop ends: %s\n", strerror(-error));
	return 1;
}
