// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* The system calls that move bytes. None blocks, none raises a signal that the program sees; all return -errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "user.h"

static ssize_t result(ssize_t n)
{
	return n < 0 ? -errno : n;
}

/* Any that is not interrupted: a signal that comes in between is the program's. */
#define UNINTERRUPTED(call)					\
	({							\
		ssize_t __n;					\
		do {						\
			__n = result(call);			\
		} while (__n == -EINTR);			\
		__n;						\
	})

static void sigpipe_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGPIPE);
}

/*
 * write() and splice() raise SIGPIPE in the thread and have no flag against it. Blocked from the first
 * such call of a round to the round's end.
 */
void user_io_hush(struct user *u)
{
	sigset_t set, old, pending;

	if (u->hush.on)
		return;
	sigpipe_set(&set);
	if (pthread_sigmask(SIG_BLOCK, &set, &old))
		return;
	u->hush.on = true;
	u->hush.raised = false;
	u->hush.before = sigismember(&old, SIGPIPE) == 1;
	u->hush.pending = u->hush.before && !sigpending(&pending) && sigismember(&pending, SIGPIPE) == 1;
}

/* A signal that we raised is taken away; one that had been there before stays. */
void user_io_unhush(struct user *u)
{
	struct timespec none = { 0 };
	sigset_t set;

	if (!u->hush.on)
		return;
	sigpipe_set(&set);
	if (u->hush.raised && !u->hush.pending)
		while (sigtimedwait(&set, NULL, &none) < 0 && errno == EINTR)
			;
	if (!u->hush.before)
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	u->hush.on = false;
}

/* A call that has moved a part can have raised it, too, and does not say so. */
static ssize_t heed(struct user *u, ssize_t n, size_t len)
{
	if (n == -EPIPE || (n > 0 && (size_t)n < len))
		u->hush.raised = true;
	return n;
}

/* 0: end of stream; -EAGAIN: nothing there. */
ssize_t user_io_read(struct user_sock *sock, void *buf, size_t len)
{
	if (sock->kind == USER_PIPE)
		return UNINTERRUPTED(read(sock->fd, buf, len));
	return UNINTERRUPTED(recv(sock->fd, buf, len, MSG_DONTWAIT));
}

/* For what recv() does not tell. */
ssize_t user_io_recvmsg(struct user_sock *sock, struct msghdr *msg, int flags)
{
	return UNINTERRUPTED(recvmsg(sock->fd, msg, flags | MSG_DONTWAIT));
}

/* What is in a pipe, through another into which tee() puts the same pages. */
static ssize_t peek_pipe(struct user *u, struct user_sock *sock, size_t len)
{
	ssize_t n, got = 0, r;

	if (!u->scratch)
		u->scratch = user_pipe_get(u);
	if (!u->scratch)
		return -EMFILE;
	n = UNINTERRUPTED(tee(sock->fd, u->scratch->fd[1], len, SPLICE_F_NONBLOCK));
	while (got < n) {
		r = UNINTERRUPTED(read(u->scratch->fd[0], u->buf + got, (size_t)(n - got)));
		if (r <= 0)
			return r ? r : -EIO;
		got += r;
	}
	return n;
}

/* Copies what comes next into u->buf and leaves it there. */
ssize_t user_io_peek(struct user *u, struct user_sock *sock, size_t len)
{
	if (len > sizeof(u->buf))
		len = sizeof(u->buf);
	if (sock->kind == USER_PIPE)
		return peek_pipe(u, sock, len);
	if (sock->kind == USER_UNIX)
		return user_rights_peek(sock, u->buf, len);
	return UNINTERRUPTED(recv(sock->fd, u->buf, len, MSG_DONTWAIT | MSG_PEEK));
}

/* Takes what was peeked at. MSG_TRUNC: TCP need not copy it again. Overwrites u->buf. */
int user_io_consume(struct user *u, struct user_sock *sock, size_t len)
{
	ssize_t n;

	while (len) {
		if (sock->kind == USER_PIPE)
			n = user_io_read(sock, u->buf, len);
		else
			n = UNINTERRUPTED(recv(sock->fd, u->buf, len, MSG_DONTWAIT | MSG_TRUNC));
		if (n <= 0)
			return n == -EAGAIN || !n ? -EBUSY : (int)n;
		len -= (size_t)n < len ? (size_t)n : len;
	}
	return 0;
}

/* 1: there is something to read; else as recv(). */
ssize_t user_io_look(struct user_sock *sock)
{
	char byte;

	return UNINTERRUPTED(recv(sock->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK));
}

/* What call makes of "some" of len bytes, as far as the peer of a socket that hops has room for them, in so many messages at most. */
#define HOPPING(sock, len, msgs, some, call)				\
	({								\
		ssize_t __r;						\
		do {							\
			some = (sock)->hops ? (sock)->user->hop->room(sock, len, msgs) : (len);	\
			__r = some || !(len) ? (call) : -EAGAIN;	\
			if (__r < 0 && some && (sock)->hops)		\
				__r = (sock)->user->hop->failed(sock, __r);	\
			else						\
				break;					\
		} while (!__r);						\
		__r;							\
	})

/*
 * Is nothing there, and nothing but TCP's? Nobody says that a socket is in a sockmap, another process's perhaps, from which it
 * gets bytes that splice() does not see and that recv() does not give together with TCP's. But a recv() of no bytes, where there are
 * none, fails in TCP and does not in a sockmap. False may also mean that something is there.
 */
bool user_io_is_pure(struct user_sock *sock)
{
	char none;
	ssize_t n;

	if (sock->pure)
		return true;
	if (user_sock_poll(sock, 0) & (POLLERR | POLLHUP))
		return false;
	n = UNINTERRUPTED(recv(sock->fd, &none, 0, MSG_DONTWAIT));
	sock->pure = n == -EAGAIN;
	/* it has failed just now, and tells of it once: who reads on will find this */
	if (n < 0 && n != -EAGAIN)
		user_busy_note(sock, (int)-n);
	return sock->pure;
}

ssize_t user_io_write(struct user_sock *sock, const void *buf, size_t len)
{
	size_t some;
	ssize_t n;

	if (sock->nagle)
		user_option_unnagle(sock);
	if (sock->late)
		sock->user->hop->again(sock);
	if (sock->kind != USER_PIPE) {
		n = HOPPING(sock, len, 1, some, UNINTERRUPTED(send(sock->fd, buf, some, MSG_DONTWAIT | MSG_NOSIGNAL)));
		if (sock->tls && n > 0)
			user_tls_sent(sock, (size_t)n);
		return n;
	}
	user_io_hush(sock->user);
	return heed(sock->user, UNINTERRUPTED(write(sock->fd, buf, len)), len);
}

/* For what send() cannot say. */
ssize_t user_io_sendmsg(struct user_sock *sock, struct msghdr *msg)
{
	return UNINTERRUPTED(sendmsg(sock->fd, msg, MSG_DONTWAIT | MSG_NOSIGNAL));
}

static ssize_t move(int from, int to, size_t len)
{
	return UNINTERRUPTED(splice(from, NULL, to, NULL, len, SPLICE_F_NONBLOCK | SPLICE_F_MOVE));
}

/* From and to a file that does not block. */
ssize_t user_io_splice_in(struct user_sock *from, struct user_pipe *to, size_t len)
{
	return move(from->fd, to->fd[1], len);
}

/* The kernel gives a socket what is in so many places of a pipe at a time, each of which may have a page or a few bytes. */
#define PLACES_SENT 16

static size_t most_messages(const struct user_pipe *p)
{
	size_t places = p->size / (size_t)sysconf(_SC_PAGESIZE);

	return (places + PLACES_SENT - 1) / PLACES_SENT;
}

ssize_t user_io_splice_out(struct user_pipe *from, struct user_sock *to)
{
	size_t some;

	user_io_hush(to->user);
	/* each try may have raised it */
	return HOPPING(to, from->len, most_messages(from), some, heed(to->user, move(from->fd[0], to->fd, some), some));
}
