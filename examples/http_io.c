// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* What http_body takes from its sockets, heads and lines, and what it has the library forward. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "http_body.h"

#define SIZE_LINE_MAX	256		/* of a chunk */
#define TRAILERS_MAX	64
#define HEAD_MS		10000		/* for a head or a line to come, and to be complete */
#define IDLE_MS		30000		/* for a connect, and for a body to go on */

static void wake_at(int fd, size_t bytes)
{
	int n = (int)bytes;

	setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &n, sizeof(n));
}

/* One more byte than there was wakes us; of those that are there nothing is taken. The end of the stream wakes us, too. */
static bool wait_beyond(int fd, size_t had, uint64_t deadline)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	uint64_t now = now_ms();
	bool came;

	if (had)
		wake_at(fd, had + 1);
	came = now < deadline && poll(&pfd, 1, (int)(deadline - now)) > 0;
	if (had)
		wake_at(fd, 1);
	return came;
}

/* Looks into the socket until the bytes that end a head or a line are there, and takes it: its length, 0: nothing came, -errno. */
static ssize_t take_until(int fd, const char *end, char *buf, size_t max)
{
	uint64_t deadline = now_ms() + HEAD_MS;
	ssize_t n, had = 0;
	const char *found;

	for (;; had = n) {
		if (!wait_beyond(fd, (size_t)had, deadline))
			return had ? -ETIMEDOUT : 0;
		n = recv(fd, buf, max, MSG_PEEK | MSG_DONTWAIT);
		if (n < 0)
			return -errno;
		found = memmem(buf, (size_t)n, end, strlen(end));
		if (found)
			return recv(fd, buf, (size_t)(found - buf) + strlen(end), MSG_DONTWAIT);
		if ((size_t)n == max)
			return -EMSGSIZE;
		if (n == had)
			return had ? -EPIPE : 0;
	}
}

/* Takes a head and understands it. 0, or the status to refuse with; -1: there is none, and nobody waits for an answer. */
int take_head(struct conn *c, int fd, struct head *h, size_t *len)
{
	ssize_t n = take_until(fd, "\r\n\r\n", c->head, sizeof(c->head));

	*len = (size_t)n;
	if (n > 0)
		return head_parse(c->head, *len, h, &c->why);
	c->why = n ? strerror((int)-n) : "no answer";
	if (!h->request)
		return n == -ETIMEDOUT || !n ? 504 : 502;
	if (!n || n == -ECONNRESET)
		return -1;
	return n == -EMSGSIZE ? 431 : n == -ETIMEDOUT ? 408 : 400;
}

/* n bytes, or all there are, after a prefix and before a suffix. 0, or the status that says whose fault it was. */
int forward(struct conn *c, int from, int to, uint64_t n, const char *prefix, size_t len, const char *suffix)
{
	struct spl_opts opts = {
		.sz = sizeof(opts),
		.flags = SPL_F_CONNECTING,
		.idle_ms = IDLE_MS,
		.prefix = prefix,
		.prefix_len = len,
		.suffix = suffix,
		.suffix_len = suffix ? strlen(suffix) : 0,
	};
	struct spl_event ev;
	uint64_t token;
	int error;

	error = spl_forward(c->spl, from, to, n, &opts, &token);
	if (!error && spl_wait(c->spl, token, &ev, -1) == 1) {
		if (ev.cause == SPL_DONE || (ev.cause == SPL_EOF && n == SPL_ALL))
			return 0;
		c->why = ev.error ? strerror(ev.error) : spl_cause_name(ev.cause);
		return from == c->server || ev.cause == SPL_SINK_FAILED ? 502 : ev.cause == SPL_IDLE ? 504 : 400;
	}
	c->why = spl_strerror_last(c->spl);
	return 502;
}

/* Chunks are framed anew, so that both sides of us see the same ones; a trailer is not passed on. */
int forward_chunks(struct conn *c, int from, int to)
{
	int bad = from == c->client ? 400 : 502, status, i;
	uint64_t size;
	char line[32];
	ssize_t n;

	for (;;) {
		c->why = "malformed chunks";
		n = take_until(from, "\r\n", c->head, SIZE_LINE_MAX);
		if (n <= 0 || !chunk_size(c->head, (size_t)n, &size))
			return bad;
		if (!size)
			break;
		n = snprintf(line, sizeof(line), "%llx\r\n", (unsigned long long)size);
		status = forward(c, from, to, size, line, (size_t)n, "\r\n");
		if (status)
			return status;
		c->why = "malformed chunks";
		if (take_until(from, "\r\n", c->head, 2) != 2)
			return bad;
	}
	for (i = 0; i < TRAILERS_MAX; i++) {
		n = take_until(from, "\r\n", c->head, sizeof(c->head));
		if (n == 2)
			return forward(c, from, to, 0, "0\r\n\r\n", 5, NULL);
		if (n < 0)
			return bad;
	}
	return bad;
}
