// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * http_body: a reverse proxy for HTTP/1 in the small.
 *
 *   http_body ADDR:PORT SERVER:PORT
 *
 * Heads are read here, bodies are the library's: of a request exactly so many bytes are forwarded as its head says, so that the
 * next request is still on the socket when its turn comes. A process for each client, one thing after the other in it:
 * a server that answers before it has read the body is heard when it has read it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "http_body.h"

#define CLIENTS_MAX	256
#define LINGER_MS	1000

static int forward_message(struct conn *c, int from, int to, const struct head *h, size_t len)
{
	uint64_t n = h->body == BODY_REST ? SPL_ALL : h->body == BODY_LENGTH ? h->length : 0;
	int status = forward(c, from, to, n, c->head, len, NULL);

	return status || h->body != BODY_CHUNKED ? status : forward_chunks(c, from, to);
}

/* The server's connection of the last request, if it rests, else another one. It may still be connecting. */
static int call_server(struct conn *c)
{
	char byte;

	if (c->server >= 0 && recv(c->server, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN)
		return 0;
	if (c->server >= 0)
		close(c->server);
	c->server = socket(c->to->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->server >= 0 && (!connect(c->server, &c->to->sa, addr_len(c->to)) || errno == EINPROGRESS))
		return 0;
	c->why = strerror(errno);
	return 502;
}

/* The answer and what is said before it, or only so much that the client may go on with his body. */
static int answer(struct conn *c, struct head *h, bool until_continue)
{
	size_t len;
	int status;

	do {
		h->body = BODY_NONE;
		status = take_head(c, c->server, h, &len);
		if (status)
			return status;
		c->why = "the server changes to another protocol";
		if (h->status == 101)
			return 502;
		c->answered = h->status >= 200;
		status = forward_message(c, c->server, c->client, h, len);
	} while (!status && !c->answered && !(until_continue && h->status == 100));
	return status;
}

/* One request and its answer. 0: another one may follow; -1: none will; else the status to refuse with. */
static int exchange(struct conn *c)
{
	struct head request = { .request = true }, response = { 0 };
	size_t len;
	int status;

	c->answered = false;
	status = take_head(c, c->client, &request, &len);
	if (status)
		return status;
	response.no_body = request.is_head;
	status = call_server(c);
	if (!status && request.expects) {
		status = forward(c, c->client, c->server, 0, c->head, len, NULL);
		if (!status)
			status = answer(c, &response, true);
		len = 0;
		/* the server does without the body: what comes next from the client may be body or request */
		if (c->answered && !status)
			return -1;
	}
	if (!status)
		status = forward_message(c, c->client, c->server, &request, len);
	if (!status)
		status = answer(c, &response, false);
	return status ? status : request.close || response.close || response.body == BODY_REST ? -1 : 0;
}

/* Says so, and lets the client read it: closing with bytes of his unread would reset the connection. */
static void refuse(struct conn *c, int status)
{
	struct pollfd pfd = { .fd = c->client, .events = POLLIN };
	uint64_t until = now_ms() + LINGER_MS, now;
	char text[128];
	int len = snprintf(text, sizeof(text), "HTTP/1.1 %d Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);

	fprintf(stderr, "refused with %d: %s\n", status, c->why);
	if (send(c->client, text, (size_t)len, MSG_NOSIGNAL) != len || shutdown(c->client, SHUT_WR))
		return;
	while ((now = now_ms()) < until && poll(&pfd, 1, (int)(until - now)) > 0)
		if (recv(c->client, c->head, sizeof(c->head), 0) <= 0)
			return;
}

/* Half an answer has been given: the client must not take it for a whole one. */
static void cut_off(struct conn *c)
{
	struct linger reset = { .l_onoff = 1 };

	fprintf(stderr, "cut off: %s\n", c->why);
	setsockopt(c->client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

/* A client, in a process of its own. */
static int serve(int client, const union addr *to)
{
	struct conn c = { .client = client, .server = -1, .to = to, .spl = open_context() };
	int status = c.spl ? 0 : -1;

	while (!status)
		status = exchange(&c);
	if (c.server >= 0)
		close(c.server);
	if (status > 0 && c.answered)
		cut_off(&c);
	else if (status > 0)
		refuse(&c, status);
	close(c.client);
	spl_close(c.spl);
	return 0;
}

int main(int argc, char **argv)
{
	int listener, client, children = 0;
	union addr to;
	pid_t pid;

	if (argc != 3 || addr_parse(argv[2], &to)) {
		fprintf(stderr, "usage: http_body ADDR:PORT SERVER:PORT\n");
		return 2;
	}
	listener = listen_on(argv[1], 0);
	if (listener < 0)
		return 1;
	for (;;) {
		client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		while (children && waitpid(-1, NULL, children < CLIENTS_MAX ? WNOHANG : 0) > 0)
			children--;
		pid = client < 0 ? -1 : fork();
		if (!pid) {
			close(listener);
			exit(serve(client, &to));
		}
		if (pid > 0)
			children++;
		else
			poll(NULL, 0, 100);	/* no descriptor, no process: soon there may be */
		if (client >= 0)
			close(client);
	}
}
