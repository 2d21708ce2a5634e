// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* What is changed on an end for the time being, and put back when it is left. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "user.h"

/* The value, or a negative errno. */
int user_option_get(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = 0;

	return getsockopt(fd, level, name, &value, &len) ? -errno : value;
}

bool user_option_set(int fd, int level, int name, int value)
{
	return !setsockopt(fd, level, name, &value, sizeof(value));
}

/* A single byte is to wake us, and peeking to begin with the next one. */
static void prepare_source(struct user_sock *sock, bool peek)
{
	int lowat, off;

	if (sock->kind == USER_PIPE || sock->plain)
		return;
	lowat = user_option_get(sock->fd, SOL_SOCKET, SO_RCVLOWAT);
	if (lowat > 1 && user_option_set(sock->fd, SOL_SOCKET, SO_RCVLOWAT, 1))
		sock->lowat = lowat;
	if (!peek && sock->kind != USER_UNIX)
		return;
	/* errors are negative as well, and stand for what is the default */
	off = user_option_get(sock->fd, SOL_SOCKET, SO_PEEK_OFF);
	if (off >= 0 && user_option_set(sock->fd, SOL_SOCKET, SO_PEEK_OFF, -1)) {
		sock->unpeeked = true;
		sock->peek_off = off;
	}
}

/*
 * A small write does not wait for the acknowledgment of the one before it. Nagle's algorithm holds back a
 * small one only, so that a connection with one message each way never comes to where it matters.
 */
void user_option_unnagle(struct user_sock *sock)
{
	if (sock->first) {
		sock->first = false;
		return;
	}
	sock->nagle = false;
	if (!user_option_get(sock->fd, IPPROTO_TCP, TCP_NODELAY))
		sock->nodelay = user_option_set(sock->fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

/* Nor does it wait for more to come. */
static void prepare_sink(struct user_sock *sock)
{
	if (sock->kind != USER_TCP)
		return;
	sock->nagle = true;
	if (!sock->plain && user_option_get(sock->fd, IPPROTO_TCP, TCP_CORK) > 0)
		sock->uncorked = user_option_set(sock->fd, IPPROTO_TCP, TCP_CORK, 0);
}

/* Of a flow that begins. source: NULL for a send. */
void user_option_prepare(struct user_sock *source, struct user_sock *sink, bool peek)
{
	if (source)
		prepare_source(source, peek);
	prepare_sink(sink);
	if (sink->user->hop && source)
		source->user->hop->begin(source, USER_RX);
	if (sink->user->hop)
		sink->user->hop->begin(sink, USER_TX);
}

static void restore_source(struct user_sock *sock)
{
	if (sock->lowat)
		user_option_set(sock->fd, SOL_SOCKET, SO_RCVLOWAT, sock->lowat);
	if (sock->unpeeked)
		user_option_set(sock->fd, SOL_SOCKET, SO_PEEK_OFF, sock->peek_off);
	sock->lowat = 0;
	sock->unpeeked = false;
}

static void restore_sink(struct user_sock *sock)
{
	if (sock->nodelay)
		user_option_set(sock->fd, IPPROTO_TCP, TCP_NODELAY, 0);
	if (sock->uncorked)
		user_option_set(sock->fd, IPPROTO_TCP, TCP_CORK, 1);
	sock->nagle = sock->nodelay = sock->uncorked = false;
}

void user_option_restore(struct user_sock *sock, unsigned int halves)
{
	if (halves & USER_RX)
		restore_source(sock);
	if (halves & USER_TX)
		restore_sink(sock);
}

/*
 * True: calls that have no flag for it do not block either. make: it may be changed for that. Asked each time, since
 * a borrowed socket's other half is the caller's, who may change it.
 */
bool user_option_nonblock(struct user_sock *sock, bool make)
{
	int flags = fcntl(sock->fd, F_GETFL);

	if (flags < 0)
		return false;
	if (flags & O_NONBLOCK)
		return true;
	if (!make || fcntl(sock->fd, F_SETFL, flags | O_NONBLOCK))
		return false;
	sock->nonblock = true;
	return true;
}

void user_option_block(struct user_sock *sock)
{
	int flags;

	if (!sock->nonblock)
		return;
	sock->nonblock = false;
	flags = fcntl(sock->fd, F_GETFL);
	if (flags >= 0)
		fcntl(sock->fd, F_SETFL, flags & ~O_NONBLOCK);
}
