// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * Which ends of this process are copying. The two descriptors of a dup are one end: a file is
 * known by its inode. One table for all contexts, since they may share files; nothing else of
 * the engine is shared, and only here is a lock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "user.h"

#define FIRST_BUCKETS	256

static struct {
	pthread_mutex_t lock;
	struct user_sock **bucket;
	size_t buckets, entries, contexts;
} busy = { .lock = PTHREAD_MUTEX_INITIALIZER };

void user_busy_opened(void)
{
	pthread_mutex_lock(&busy.lock);
	busy.contexts++;
	pthread_mutex_unlock(&busy.lock);
}

/* The last context leaves no memory behind. A forked child may have entries of its parent's. */
void user_busy_closed(void)
{
	pthread_mutex_lock(&busy.lock);
	if (!--busy.contexts && !busy.entries) {
		free(busy.bucket);
		busy.bucket = NULL;
		busy.buckets = 0;
	}
	pthread_mutex_unlock(&busy.lock);
}

static struct user_sock **bucket_of(ino_t ino)
{
	return &busy.bucket[ino & (busy.buckets - 1)];
}

/* busy.lock held. A table that cannot grow is slower, not wrong. */
static int grow(void)
{
	size_t old = busy.buckets, i;
	struct user_sock **from = busy.bucket, **to, *e, *chain;

	if (busy.entries < old)
		return 0;
	to = calloc(old ? old * 2 : FIRST_BUCKETS, sizeof(struct user_sock *));
	if (!to)
		return old ? 0 : -ENOMEM;
	busy.bucket = to;
	busy.buckets = old ? old * 2 : FIRST_BUCKETS;
	for (i = 0; i < old; i++) {
		for (e = from[i]; e; e = chain) {
			chain = e->chain;
			to = bucket_of(e->ino);
			e->chain = *to;
			*to = e;
		}
	}
	free(from);
	return 0;
}

/* busy.lock held. This context's entry for the file, if it has one; -EBUSY if the halves are taken. */
static int look(const struct user *u, const struct stat *st, unsigned int halves, struct user_sock **ours)
{
	struct user_sock *e;

	*ours = NULL;
	for (e = *bucket_of(st->st_ino); e; e = e->chain) {
		if (e->ino != st->st_ino || e->dev != st->st_dev)
			continue;
		if (e->halves & halves)
			return -EBUSY;
		/* the two ends of a pipe are two files */
		if (e->user == u && !S_ISFIFO(st->st_mode))
			*ours = e;
	}
	return 0;
}

static struct user_sock *new_entry(struct user *u, const struct stat *st, int fd)
{
	struct user_sock *e = calloc(1, sizeof(*e));
	struct user_sock **to = bucket_of(st->st_ino);

	if (!e)
		return NULL;
	e->user = u;
	e->fd = fd;
	e->dev = st->st_dev;
	e->ino = st->st_ino;
	e->kind = S_ISFIFO(st->st_mode) ? USER_PIPE : USER_STREAM;
	e->chain = *to;
	*to = e;
	busy.entries++;
	return e;
}

static int take(struct user *u, const struct stat *st, int fd, unsigned int halves, struct user_sock **out)
{
	int r = grow();

	if (!r)
		r = look(u, st, halves, out);
	if (r)
		return r;
	if (!*out)
		*out = new_entry(u, st, fd);
	if (!*out)
		return -ENOMEM;
	(*out)->halves |= (uint8_t)halves;
	return 0;
}

static int look_at_file(struct user *u, int fd, struct stat *st)
{
	if (fstat(fd, st))
		return spl_refuse(u->spl, -errno, "descriptor %d is not open", fd);
	if (!S_ISSOCK(st->st_mode) && (fcntl(fd, F_GETFL) & O_PATH))
		return spl_refuse(u->spl, -EBADF, "descriptor %d: a path only", fd);
	if (!S_ISSOCK(st->st_mode) && !S_ISFIFO(st->st_mode))
		return spl_refuse(u->spl, -ENOTSOCK, "descriptor %d is neither a socket nor a pipe", fd);
	return 0;
}

/* The source is refused with r: a sink that is no end at all is the better reason. */
int user_busy_check_file(struct user *u, int fd, int r)
{
	char why[SPL_SENTENCE_MAX];
	struct stat st;
	int other;

	if (r == -EBADF || r == -ENOTSOCK)
		return r;
	memcpy(why, u->spl->sentence, sizeof(why));
	other = look_at_file(u, fd, &st);
	return other ? other : spl_refuse(u->spl, r, "%s", why);
}

/*
 * Marks the halves of the file behind fd as busy. *out may be an entry that this context has for the
 * file's other half. What kind of socket it is, is not looked at here.
 */
int user_busy_take(struct user *u, int fd, unsigned int halves, struct user_sock **out)
{
	struct stat st;
	int r = look_at_file(u, fd, &st);

	if (r)
		return r;
	pthread_mutex_lock(&busy.lock);
	r = take(u, &st, fd, halves, out);
	pthread_mutex_unlock(&busy.lock);
	if (r == -EBUSY)
		return spl_refuse(u->spl, r, "an operation has the end of descriptor %d already", fd);
	return r ? spl_refuse(u->spl, r, NULL) : 0;
}

/* busy.lock held. The one that leaves last puts the file back as it was. */
static void pass_on(struct user_sock *sock)
{
	struct user_sock *e;

	if (!sock->nonblock || (sock->kind == USER_PIPE && !sock->both))
		return;
	for (e = *bucket_of(sock->ino); e; e = e->chain) {
		if (e->ino != sock->ino || e->dev != sock->dev || (e->kind == USER_PIPE && !e->both))
			continue;
		e->nonblock = true;
		sock->nonblock = false;
		return;
	}
}

/* An entry without a busy half leaves the table; it stays the caller's to free. */
void user_busy_release(struct user_sock *sock, unsigned int halves)
{
	struct user_sock **link;

	pthread_mutex_lock(&busy.lock);
	sock->halves &= (uint8_t)~halves;
	if (!sock->halves) {
		for (link = bucket_of(sock->ino); *link != sock; link = &(*link)->chain)
			;
		*link = sock->chain;
		busy.entries--;
		pass_on(sock);
	}
	pthread_mutex_unlock(&busy.lock);
}

/* An error is told once, by the socket to whoever asks first: he tells all operations of the file. */
void user_busy_note(struct user_sock *sock, int error)
{
	struct user_sock *e;

	sock->error = error;
	pthread_mutex_lock(&busy.lock);
	for (e = *bucket_of(sock->ino); e; e = e->chain)
		if (e->ino == sock->ino && e->dev == sock->dev)
			e->error = error;
	pthread_mutex_unlock(&busy.lock);
}

/* Its end was passed on to this file: from now on a connection that is over need not have failed. */
void user_busy_note_shut(struct user_sock *sock)
{
	pthread_mutex_lock(&busy.lock);
	sock->shut = true;
	pthread_mutex_unlock(&busy.lock);
}

/* Is it a sink, of any context, that was not shut down? */
bool user_busy_written(const struct user_sock *sock)
{
	const struct user_sock *e;
	bool written = false;

	pthread_mutex_lock(&busy.lock);
	for (e = *bucket_of(sock->ino); e; e = e->chain)
		if (e->ino == sock->ino && e->dev == sock->dev)
			written |= (e->halves & USER_TX) && !e->shut;
	pthread_mutex_unlock(&busy.lock);
	return written;
}

/* Is the file behind fd this one? */
bool user_busy_same(const struct user_sock *sock, int fd)
{
	struct stat st;

	return !fstat(fd, &st) && st.st_ino == sock->ino && st.st_dev == sock->dev;
}
