// SPDX-License-Identifier: GPL-2.0
/*
 * verify.c: contents. Both sides send a stream of their own in odd pieces and check the other's, at the same time.
 * "half": the client's stream ends first, and the server must still be able to send most of its own.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define CONNS 4
#define LEN (3 << 20)
#define TABLE 65521		/* prime: a shift by any round number shows */
#define PIECE 40000

static unsigned char table[2 * TABLE];

struct side {
	struct job *job;
	int fd;
	uint64_t tx, rx, tx_len, rx_len;
	unsigned int tx_shift, rx_shift;
	uint64_t random;
	bool hold;		/* sends nothing before the other's end */
	bool shut;		/* ends when it has sent all, whether or not it has all of the other's */
	bool over, ended;
};

static void make_table(void)
{
	uint64_t x = 88172645463325252ull;
	unsigned int i;

	for (i = 0; i < TABLE; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		table[i] = table[i + TABLE] = (unsigned char)(x >> 32);
	}
}

static size_t piece(struct side *s, uint64_t left)
{
	size_t n;

	s->random = s->random * 6364136223846793005ull + 1442695040888963407ull;
	n = (s->random >> 33) % ((s->random >> 20) & 1 ? PIECE : 100) + 1;
	return n < left ? n : (size_t)left;
}

static void transmit(struct side *s)
{
	const unsigned char *at = &table[(s->tx + s->tx_shift) % TABLE];
	ssize_t n = send(s->fd, at, piece(s, s->tx_len - s->tx), MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN)
		die(s->job, "send: %s after %llu bytes", strerror(errno), (unsigned long long)s->tx);
	if (n > 0)
		s->tx += (uint64_t)n;
}

static void receive(struct side *s)
{
	unsigned char buf[PIECE];
	ssize_t n = recv(s->fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && errno != EAGAIN)
		die(s->job, "recv: %s after %llu bytes", strerror(errno), (unsigned long long)s->rx);
	if (n > 0 && memcmp(buf, &table[(s->rx + s->rx_shift) % TABLE], (size_t)n))
		die(s->job, "wrong bytes after %llu", (unsigned long long)s->rx);
	if (n > 0)
		s->rx += (uint64_t)n;
	if (!n && s->rx != s->rx_len)
		die(s->job, "end after %llu of %llu bytes", (unsigned long long)s->rx, (unsigned long long)s->rx_len);
	s->over = s->over || !n;
}

static bool may_send(const struct side *s)
{
	return s->tx < s->tx_len && !(s->hold && s->tx >= s->tx_len / 4 && !s->over);
}

/* true: this side has done all it will do */
static bool step(struct side *s, short revents)
{
	if (may_send(s) && revents & (POLLOUT | POLLERR))
		transmit(s);
	if (!s->over && revents & (POLLIN | POLLHUP | POLLERR))
		receive(s);
	if (s->tx == s->tx_len && !s->ended && (s->shut || s->rx == s->rx_len)) {
		shutdown(s->fd, SHUT_WR);
		s->ended = true;
	}
	return s->over && s->tx == s->tx_len;
}

static void exchange(struct side *sides, unsigned int n)
{
	struct pollfd p[CONNS];
	bool done[CONNS] = { false };
	unsigned int i, left = n;

	while (left) {
		for (i = 0; i < n; i++)
			p[i] = (struct pollfd){ .fd = done[i] ? -1 : sides[i].fd, .events = (short)
				((sides[i].over ? 0 : POLLIN) | (may_send(&sides[i]) ? POLLOUT : 0)) };
		if (poll(p, n, LOAD_PATIENCE_S * 1000) <= 0)
			die(sides->job, "stuck: %llu of %llu bytes received", (unsigned long long)sides->rx,
			    (unsigned long long)sides->rx_len);
		for (i = 0; i < n; i++)
			if (p[i].revents && step(&sides[i], p[i].revents)) {
				done[i] = true;
				left--;
			}
	}
	for (i = 0; i < n; i++)
		close(sides[i].fd);
}

static void server(struct job *job)
{
	struct side s[CONNS];
	bool half = job->mode == &half_mode;
	unsigned int i;

	make_table();
	for (i = 0; i < CONNS; i++)
		s[i] = (struct side){ .job = job, .fd = accept_one(job), .tx_len = LEN, .rx_len = LEN, .tx_shift = 999,
				      .random = i + 100, .hold = half, .shut = half };
	exchange(s, CONNS);
}

static void client(struct job *job)
{
	struct side s[CONNS];
	bool half = job->mode == &half_mode;
	unsigned int i;

	make_table();
	for (i = 0; i < CONNS; i++)
		s[i] = (struct side){ .job = job, .fd = connect_to(job, i), .tx_len = LEN, .rx_len = LEN, .rx_shift = 999,
				      .random = i, .shut = half };
	exchange(s, CONNS);
	atomic_store(&job->sh->done, (uint64_t)CONNS * LEN);
	atomic_store(&job->sh->ready, job->conns);
}

static int watch(struct job *job)
{
	if (wait_ready(job, 10000))
		return -1;
	printf("{\"done\": %llu}\n", (unsigned long long)atomic_load(&job->sh->done));
	return 0;
}

const struct mode verify_mode = { .name = "verify", .server = server, .client = client, .watch = watch };
const struct mode half_mode = { .name = "half", .server = server, .client = client, .watch = watch };
