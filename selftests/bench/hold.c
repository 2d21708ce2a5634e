// SPDX-License-Identifier: GPL-2.0
/*
 * hold.c: connections in a state in which a relay has nothing to do, and stays in it:
 *   idle            have talked, rest
 *   stalled         the client sends, the server does not read, nothing moves any more
 *   stalled-closed  the same, and the client's end waits behind its bytes in the relay's own socket
 *   half-closed     the client's end has reached the server, which is silent
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define READY_MS 20000
#define QUIET_MS 400
#define PIECE 16384

static void rest(struct job *job)
{
	while (atomic_load(&job->sh->phase) != PHASE_STOP)
		usleep(20000);
}

/* Accepts and reads as much as WANT, to the end where END. */
static void take(struct job *job, size_t want, bool end)
{
	char buf[PIECE];
	unsigned int i;
	int fd;

	for (i = 0; i < job->conns; i++) {
		fd = accept_one(job);
		if (want && recv(fd, buf, want, MSG_WAITALL) != (ssize_t)want)
			die(job, "server: too little came");
		if (end && recv(fd, buf, 1, 0))
			die(job, "server: the end did not come");
		if (end)
			atomic_fetch_add(&job->sh->ready, 1);
	}
	rest(job);
}

static void silent_server(struct job *job)
{
	take(job, 0, false);
}

static void half_server(struct job *job)
{
	take(job, job->size, true);
}

/* Until a piece stays where the relay must have seen it, yet does not fetch it. */
static void fill_gently(struct job *job, int fd, const char *buf)
{
	int waited;

	for (;;) {
		send_all(job, fd, buf, PIECE);
		for (waited = 0; waited < QUIET_MS && peer_queue(job, fd) > 0; waited++)
			usleep(1000);
		if (waited >= QUIET_MS)
			return;
	}
}

/* Until nothing is taken any more. */
static void fill(struct job *job, int fd, const char *buf)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	while (poll(&p, 1, QUIET_MS) > 0)
		if (send(fd, buf, PIECE, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
			die(job, "send: %s", strerror(errno));
}

static void fill_all(struct job *job, bool gently)
{
	char *buf = calloc(1, PIECE);
	int *fds = calloc(job->conns, sizeof(*fds));
	unsigned int i;

	if (!buf || !fds)
		die(job, "out of memory");
	for (i = 0; i < job->conns; i++)
		fds[i] = connect_to(job, i);
	for (i = 0; i < job->conns; i++) {
		if (gently) {
			fill_gently(job, fds[i], buf);
			shutdown(fds[i], SHUT_WR);
		} else {
			fill(job, fds[i], buf);
		}
		atomic_fetch_add(&job->sh->ready, 1);
	}
	rest(job);
}

static void stalled_client(struct job *job)
{
	fill_all(job, false);
}

static void stalled_closed_client(struct job *job)
{
	fill_all(job, true);
}

static void talk(struct job *job, bool reply, bool end)
{
	char *buf = calloc(1, job->size);
	unsigned int i;
	int fd;

	for (i = 0; buf && i < job->conns; i++) {
		fd = connect_to(job, i);
		send_all(job, fd, buf, job->size);
		if (reply && recv(fd, buf, job->size, MSG_WAITALL) != (ssize_t)job->size)
			die(job, "no reply: %s", strerror(errno));
		if (end)
			shutdown(fd, SHUT_WR);
		else
			atomic_fetch_add(&job->sh->ready, 1);
	}
	rest(job);
}

static void idle_client(struct job *job)
{
	talk(job, true, false);
}

static void half_client(struct job *job)
{
	talk(job, false, true);
}

static int watch(struct job *job)
{
	char c;

	if (wait_ready(job, READY_MS))
		return -1;
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return 0;
}

/* The processes end with their connections, whatever is still in them. */
const struct mode hold_modes[4] = {
	{ .name = "idle", .server = echo_server, .client = idle_client, .watch = watch },
	{ .name = "stalled", .server = silent_server, .client = stalled_client, .watch = watch },
	{ .name = "stalled-closed", .server = silent_server, .client = stalled_closed_client, .watch = watch },
	{ .name = "half-closed", .server = half_server, .client = half_client, .watch = watch },
};
