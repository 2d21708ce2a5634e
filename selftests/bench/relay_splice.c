// SPDX-License-Identifier: GPL-2.0
/* relay_splice.c: splice(2) through pipes out of a pool. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "relay.h"

#define PIPE_SIZE (1 << 20)
#define SLOTS (PIPE_SIZE / 4096)
#define GULP (512 << 10)
#define POOL 64
#define TURNS 8

static struct { int fd[2]; } pool[POOL];
static unsigned int pooled;

static bool take_pipe(struct way *w)
{
	if (pooled) {
		pooled--;
		w->pipe[0] = pool[pooled].fd[0];
		w->pipe[1] = pool[pooled].fd[1];
		return true;
	}
	if (pipe2(w->pipe, O_NONBLOCK | O_CLOEXEC))
		return false;
	fcntl(w->pipe[1], F_SETPIPE_SZ, PIPE_SIZE);
	return true;
}

static void close_pipe(struct way *w)
{
	close(w->pipe[0]);
	close(w->pipe[1]);
}

/* An empty one. */
static void give_pipe(struct way *w)
{
	if (pooled == POOL) {
		close_pipe(w);
		return;
	}
	pool[pooled].fd[0] = w->pipe[0];
	pool[pooled].fd[1] = w->pipe[1];
	pooled++;
}

static bool drain(struct way *w)
{
	ssize_t n = splice(w->pipe[0], NULL, w->to->fd, NULL, w->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

	if (n < 0 && errno != EAGAIN)
		return false;
	if (n < (ssize_t)w->held)
		w->to->writable = false;
	if (n > 0)
		w->held -= (size_t)n;
	return true;
}

/* Every slot of the pipe has at least a byte: fewer bytes than slots mean that it was not full, but the source empty. */
static bool fetch(struct way *w)
{
	ssize_t n = splice(w->from->fd, NULL, w->pipe[1], NULL, GULP, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

	if (n < 0 && errno != EAGAIN)
		return false;
	if (n > 0)
		w->held += (size_t)n;
	w->last = !n;
	if (n < 0 || (n < SLOTS && !w->from->hangup))
		w->from->readable = false;
	return true;
}

static enum moved pump(struct way *w)
{
	unsigned int turn;

	for (turn = 0; turn < TURNS; turn++) {
		if (w->held && w->to->writable && !drain(w))
			return MOVED_FAILED;
		if (w->held || w->last || !w->from->readable)
			return MOVED_ALL;
		if (!fetch(w))
			return MOVED_FAILED;
	}
	return MOVED_MORE;
}

static enum moved move(struct way *w)
{
	bool had = w->held;
	enum moved moved;

	if (!had && !take_pipe(w))
		return MOVED_FAILED;
	moved = pump(w);
	if (!w->held)
		give_pipe(w);
	return moved;
}

static void release(struct way *w)
{
	if (w->held)
		close_pipe(w);
	w->held = 0;
}

const struct mover splice_mover = { .name = "splice", .move = move, .release = release };
