// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* The pool of pipes. A flow has one only while it holds bytes in it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "user.h"

#define SIZE_WANTED	(1024 * 1024)
#define SIZE_LEAST	65536	/* less is what a user gets who has too much in pipes: copying is better */
#define FREE_KEPT	8

static void pipe_close(struct user_pipe *p)
{
	close(p->fd[0]);
	close(p->fd[1]);
	free(p);
}

static struct user_pipe *pipe_new(void)
{
	struct user_pipe *p = calloc(1, sizeof(*p));
	int size;

	if (!p)
		return NULL;
	if (pipe2(p->fd, O_CLOEXEC | O_NONBLOCK)) {
		free(p);
		return NULL;
	}
	size = fcntl(p->fd[1], F_SETPIPE_SZ, SIZE_WANTED);
	if (size < 0)
		size = fcntl(p->fd[1], F_GETPIPE_SZ);
	if (size < SIZE_LEAST) {
		pipe_close(p);
		return NULL;
	}
	p->size = (size_t)size;
	return p;
}

/* An empty one; NULL: there is none to be had, copy instead. */
struct user_pipe *user_pipe_get(struct user *u)
{
	struct user_pipe *p = SLIST_FIRST(&u->pipes);

	if (!p)
		return pipe_new();
	SLIST_REMOVE_HEAD(&u->pipes, free);
	u->pipes_free--;
	return p;
}

/* Only an empty one is of use to others. */
void user_pipe_put(struct user *u, struct user_pipe *p)
{
	if (p->len || u->pipes_free >= FREE_KEPT) {
		pipe_close(p);
		return;
	}
	SLIST_INSERT_HEAD(&u->pipes, p, free);
	u->pipes_free++;
}

void user_pipe_free_all(struct user *u)
{
	struct user_pipe *p;

	while ((p = SLIST_FIRST(&u->pipes))) {
		SLIST_REMOVE_HEAD(&u->pipes, free);
		pipe_close(p);
	}
	if (u->scratch)
		pipe_close(u->scratch);
}
