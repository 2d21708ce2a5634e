// SPDX-License-Identifier: GPL-2.0
/* driven.c: see driven.h. */
#define DRIVEN_ITSELF
#include "driven.h"
#include "util.h"

/*
 * The thread has a forward of its own in the context, which never ends: waiting for it, not at all,
 * makes the engine work without taking an event away from the test.
 */
struct driven {
	struct spl *s;
	pthread_t thread;
	pthread_mutex_t turn;
	volatile bool stop;
	uint64_t own;		/* token of the forward that never ends */
	int source[2], sink[2];
	struct driven *next;
};

static struct driven *all_driven;
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;

static struct driven *driven_of(const struct spl *s)
{
	struct driven *d;

	pthread_mutex_lock(&all_lock);
	for (d = all_driven; d && d->s != s; d = d->next)
		;
	pthread_mutex_unlock(&all_lock);
	return d;
}

static struct driven *turn_take(struct spl *s)
{
	struct driven *d = driven_of(s);

	if (d)
		pthread_mutex_lock(&d->turn);
	return d;
}

static void turn_end(struct driven **d)
{
	if (*d)
		pthread_mutex_unlock(&(*d)->turn);
}

/* From here to the end of the function the context is the caller's. */
#define MY_TURN(s) \
	struct driven *turn __attribute__((cleanup(turn_end), unused)) = turn_take(s)

/* The pause is the test's chance to have its turn; it also keeps an event that is not read from
 * making this a busy loop.
 */
static void *driven_thread(void *arg)
{
	struct driven *d = arg;
	struct spl_event ev;

	while (!d->stop) {
		if (poll_fd(spl_fd(d->s), POLLIN, 20) <= 0)
			continue;
		pthread_mutex_lock(&d->turn);
		spl_wait(d->s, d->own, &ev, 0);
		pthread_mutex_unlock(&d->turn);
		usleep(20);
	}
	return NULL;
}

static void driven_free(struct driven *d)
{
	int i;

	for (i = 0; i < 2; i++) {
		close_fd(d->source + i);
		close_fd(d->sink + i);
	}
	free(d);
}

static int driven_begin(struct driven *d)
{
	int err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, d->source) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, d->sink))
		return -errno;
	err = spl_forward(d->s, d->source[0], d->sink[0], SPL_ALL, NULL, &d->own);
	return err ? err : -pthread_create(&d->thread, NULL, driven_thread, d);
}

int driven_open(struct spl **s, const struct spl_open_opts *opts)
{
	int err = spl_open(s, opts);
	struct driven *d;

	if (err || spl_engine(*s) == SPL_ENGINE_KMOD)
		return err;
	d = malloc(sizeof(*d));
	if (!d)
		return -ENOMEM;
	*d = (struct driven){ .s = *s, .source = { -1, -1 }, .sink = { -1, -1 },
			      .turn = PTHREAD_MUTEX_INITIALIZER };
	err = driven_begin(d);
	if (err) {
		spl_close(*s);
		driven_free(d);
		return err;
	}
	pthread_mutex_lock(&all_lock);
	d->next = all_driven;
	all_driven = d;
	pthread_mutex_unlock(&all_lock);
	return 0;
}

void driven_close(struct spl *s)
{
	struct driven *d = driven_of(s), **link = &all_driven;

	if (d) {
		d->stop = true;
		pthread_join(d->thread, NULL);
		pthread_mutex_lock(&all_lock);
		while (*link != d)
			link = &(*link)->next;
		*link = d->next;
		pthread_mutex_unlock(&all_lock);
	}
	spl_close(s);
	if (d)
		driven_free(d);
}

int driven_forward(struct spl *s, int source, int sink, uint64_t n, const struct spl_opts *opts,
		   uint64_t *token)
{
	MY_TURN(s);
	return spl_forward(s, source, sink, n, opts, token);
}

int driven_splice(struct spl *s, int source, int sink, const struct spl_opts *opts, uint64_t *token)
{
	MY_TURN(s);
	return spl_splice(s, source, sink, opts, token);
}

int driven_splice_pair(struct spl *s, int a, int b, const struct spl_opts *opts, uint64_t *token)
{
	MY_TURN(s);
	return spl_splice_pair(s, a, b, opts, token);
}

int driven_send(struct spl *s, int sink, const void *buf, size_t len, const struct spl_opts *opts,
		uint64_t *token)
{
	MY_TURN(s);
	return spl_send(s, sink, buf, len, opts, token);
}

int driven_cancel(struct spl *s, uint64_t token)
{
	MY_TURN(s);
	return spl_cancel(s, token);
}

int driven_revoke(struct spl *s, uint64_t token, int error)
{
	MY_TURN(s);
	return spl_revoke(s, token, error);
}

int driven_reclaim(struct spl *s, uint64_t token, int fds[2])
{
	MY_TURN(s);
	return spl_reclaim(s, token, fds);
}

int driven_stat(struct spl *s, uint64_t token, struct spl_stat *out)
{
	MY_TURN(s);
	return spl_stat(s, token, out);
}

int driven_residue(struct spl *s, uint64_t token, void *buf, size_t len)
{
	MY_TURN(s);
	return spl_residue(s, token, buf, len);
}

int driven_next(struct spl *s, struct spl_event *ev, int timeout_ms)
{
	MY_TURN(s);
	return spl_next(s, ev, timeout_ms);
}

int driven_wait(struct spl *s, uint64_t token, struct spl_event *ev, int timeout_ms)
{
	MY_TURN(s);
	return spl_wait(s, token, ev, timeout_ms);
}

int driven_writeable(struct spl *s, int sink)
{
	MY_TURN(s);
	return spl_writeable(s, sink);
}
