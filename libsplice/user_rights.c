// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * Descriptors (SCM_RIGHTS) that come with the bytes of a unix socket. Whoever takes such bytes without
 * room for descriptors drops them, and a sink cannot be given any: so a unix source is looked at before
 * anything is taken from it, and a flow ends in front of them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "user.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD	76
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD	4
#endif

#define ROOM		4096	/* for all that can come with one read: 253 descriptors, who sent it, a label */

/* As recv(MSG_PEEK). MSG_CTRUNC tells that something is there which is no byte, and there was no room for it. */
static ssize_t look(struct user_sock *sock, struct iovec *to, size_t parts, void *control, size_t room,
		    struct msghdr *msg)
{
	*msg = (struct msghdr) {
		.msg_iov = to, .msg_iovlen = parts, .msg_control = control, .msg_controllen = room,
	};
	return user_io_recvmsg(sock, msg, MSG_PEEK | MSG_CMSG_CLOEXEC);
}

/* The caller has asked for who sends: then that comes with every byte. */
static bool wants_credentials(const struct user_sock *sock)
{
	return user_option_get(sock->fd, SOL_SOCKET, SO_PASSCRED) > 0 ||
	       user_option_get(sock->fd, SOL_SOCKET, SO_PASSSEC) > 0 ||
	       user_option_get(sock->fd, SOL_SOCKET, SO_PASSPIDFD) > 0;
}

/* Those that looking has brought are copies: what is on the socket stays there. */
static size_t close_copies(struct cmsghdr *c)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int), i;
	int fd;

	for (i = 0; i < n; i++) {
		memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
		close(fd);
	}
	return n;
}

/* Something came with the bytes. Is there a descriptor in it? */
static bool has_rights(struct user_sock *sock, struct iovec *to)
{
	char control[ROOM] __attribute__((aligned(__alignof__(struct cmsghdr))));
	struct msghdr msg;
	struct cmsghdr *c;
	bool found;

	if (!wants_credentials(sock))
		return true;
	if (look(sock, to, 1, control, sizeof(control), &msg) < 0)
		return true;
	found = msg.msg_flags & MSG_CTRUNC;
	for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS)
			found |= close_copies(c);
		else if (c->cmsg_type == SCM_PIDFD)
			close_copies(c);
	}
	return found;
}

/*
 * Of the first n bytes, how many come before the message that the last of them is of. One message that does not
 * fit into memory is left out as a whole: there is room for all but that byte, which would go where nothing is written.
 */
static ssize_t before_last(struct user_sock *sock, void *buf, size_t n)
{
	static const char wall[1] = "";
	struct iovec to[] = { { .iov_base = buf, .iov_len = n - 1 }, { .iov_base = (void *)wall, .iov_len = 1 } };
	struct msghdr msg;
	ssize_t before = look(sock, to, 2, NULL, 0, &msg);

	if (before == -EFAULT)
		return 0;
	return before < (ssize_t)n ? before : -EPROTO;
}

/*
 * As recv(MSG_PEEK) of len bytes, but only those before the next descriptor; -EPROTO: it is next. What is said of one
 * is said of all that waits in the socket: a second look, with all the room there is, ends with its message. buf has
 * USER_BUFFER bytes, which is more than one message with descriptors can have.
 */
ssize_t user_rights_peek(struct user_sock *sock, void *buf, size_t len)
{
	struct iovec to = { .iov_base = buf, .iov_len = len };
	struct msghdr msg;
	ssize_t n = look(sock, &to, 1, NULL, 0, &msg), good;

	if (n <= 0 || !(msg.msg_flags & MSG_CTRUNC) || !has_rights(sock, &to))
		return n;
	to.iov_len = USER_BUFFER;
	n = look(sock, &to, 1, NULL, 0, &msg);
	if (n <= 0)
		return n;
	good = before_last(sock, buf, (size_t)n);
	if (!good)
		good = n < USER_BUFFER ? -EPROTO : n;
	return good < (ssize_t)len ? good : (ssize_t)len;
}
