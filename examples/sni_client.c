// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* A client of sni_proxy whose upstream is known: one address after the other, then the library has both sockets. */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sni_proxy.h"

#define IDLE_MS		300000
#define SYN_RETRIES	2		/* a silent server is given up after 7 s */

void client_free(struct client *c)
{
	close(c->fd);
	if (c->server >= 0)
		close(c->server);
	free(c);
}

/* 0: the library has both. An errno: why this address will not do. Negative: it is not the server's fault. */
static int call(struct proxy *p, struct client *c, const union addr *to)
{
	unsigned char header[PROXY_HEADER_MAX];
	struct spl_opts opts = {
		.sz = sizeof(opts),
		/* kept, the client outlives a connect that fails later */
		.flags = SPL_F_CONNECTING | SPL_F_KEEP,
		.idle_ms = IDLE_MS,
		.user_data = (uintptr_t)c,
		.prefix = header,
		.prefix_len = proxy_header(c->fd, header),
	};
	int error, value = SYN_RETRIES;
	socklen_t len = sizeof(value);
	uint64_t token;

	if (!opts.prefix_len)
		return -ENOTCONN;
	c->server = socket(to->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->server < 0)
		return errno;
	setsockopt(c->server, IPPROTO_TCP, TCP_SYNCNT, &value, len);
	if (connect(c->server, &to->sa, addr_len(to)) && errno != EINPROGRESS)
		return errno;
	error = spl_splice_pair(p->spl, c->fd, c->server, &opts, &token);
	/* a server that is near may have refused by now: its socket knows why it is not connected */
	if (error == -ENOTCONN && !getsockopt(c->server, SOL_SOCKET, SO_ERROR, &value, &len) && value)
		return value;
	return error;
}

static void failed(struct client *c, int error)
{
	fprintf(stderr, "%s: %s: %s\n", c->to->name, addr_text(&c->to->addr[c->next - 1]), strerror(error));
	if (c->server >= 0)
		close(c->server);
	c->server = -1;
}

/* The client is not watched. Calls the addresses that are left until one does not refuse at once. */
void client_connect(struct proxy *p, struct client *c)
{
	int error = 1;

	while (error > 0 && c->next < c->to->addrs) {
		error = call(p, c, &c->to->addr[c->next++]);
		if (error)
			failed(c, error > 0 ? error : -error);
	}
	if (!error)
		return;
	fprintf(stderr, "refused: no server for %s\n", c->to->name);
	client_free(c);
}

/* A pair has ended, or its connect has failed: then the client's end is not over, and nothing was taken from it. */
void client_ended(struct proxy *p, const struct spl_event *ev)
{
	struct client *c = (struct client *)(uintptr_t)ev->user_data;

	if (ev->cause != SPL_SINK_FAILED || (ev->ended & SPL_END_SOURCE)) {
		client_free(c);
		return;
	}
	failed(c, ev->error);
	client_connect(p, c);
}
