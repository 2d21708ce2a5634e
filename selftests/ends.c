// SPDX-License-Identifier: GPL-2.0
/* ends.c: connections of every kind that a relay may stand between. */
#include "tls.h"

#include <arpa/inet.h>

int tcp_listen(int family, struct sockaddr_storage *addr, socklen_t *len)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	memset(addr, 0, sizeof(*addr));
	addr->ss_family = family;
	*len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	if (family == AF_INET)
		((struct sockaddr_in *)addr)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (void *)addr, *len) || listen(fd, 16) ||
	    getsockname(fd, (void *)addr, len)) {
		int err = -errno;

		close(fd);
		return err;
	}
	if (family == AF_INET6)
		((struct sockaddr_in6 *)addr)->sin6_addr = in6addr_loopback;
	return fd;
}

/* What a client must connect to so that the accepted IPv6 socket talks IPv4. */
static void as_mapped(struct sockaddr_storage *addr, int family, socklen_t *len)
{
	struct sockaddr_in6 *v6 = (void *)addr;
	struct sockaddr_in v4 = {
		.sin_family = AF_INET,
		.sin_port = v6->sin6_port,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	if (family == AF_INET6) {
		inet_pton(AF_INET6, "::ffff:127.0.0.1", &v6->sin6_addr);
		return;
	}
	memcpy(addr, &v4, sizeof(v4));
	*len = sizeof(v4);
}

int tcp_pair(enum net net, bool server_side, int fds[2])
{
	int listening = net == NET_V4 || (net == NET_MIXED && !server_side) ? AF_INET : AF_INET6;
	/* mapped: on the server side it is the connecting socket that must be the IPv6 one */
	int connecting = net == NET_MAPPED && !server_side ? AF_INET : listening;
	struct sockaddr_storage addr;
	socklen_t len;
	int fd, err;

	fds[0] = fds[1] = -1;
	fd = tcp_listen(listening, &addr, &len);
	if (fd < 0)
		return fd;
	if (net == NET_MAPPED)
		as_mapped(&addr, connecting, &len);
	fds[0] = socket(connecting, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fds[0] < 0 || connect(fds[0], (void *)&addr, len))
		goto fail;
	fds[1] = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (fds[1] < 0)
		goto fail;
	close(fd);
	return 0;
fail:
	err = -errno;
	close_fd(&fds[0]);
	close(fd);
	return err;
}

static int tls_pair(enum net net, int fds[2])
{
	int err = tcp_pair(NET_V4, false, fds);

	err = err ? err : tls_upgrade(fds, net == NET_TLS12 ? TLS_1_2_VERSION : TLS_1_3_VERSION);
	if (err) {
		close_fd(&fds[0]);
		close_fd(&fds[1]);
	}
	return err;
}

/* One side of a relay: fds[0] is the one that connects, or writes. */
static int side_open(enum net net, bool server_side, int fds[2])
{
	static const enum net sides[][2] = {
		[NET_TCP_TO_UNIX] = { NET_V4, NET_UNIX },
		[NET_UNIX_TO_TCP] = { NET_UNIX, NET_V4 },
		[NET_TLS_TO_TCP] = { NET_TLS, NET_V4 },
		[NET_TCP_TO_TLS] = { NET_V4, NET_TLS },
		[NET_PIPE_TO_TCP] = { NET_PIPE, NET_V4 },
		[NET_TCP_TO_PIPE] = { NET_V4, NET_PIPE },
	};
	int own = server_side ? 0 : 1;

	if (net < sizeof(sides) / sizeof(*sides) && sides[net][0] != sides[net][1])
		net = sides[net][server_side];
	if (net == NET_UNIX)
		return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) ? -errno : 0;
	if (net == NET_TLS || net == NET_TLS12)
		return tls_pair(net, fds);
	if (net != NET_PIPE)
		return tcp_pair(net, server_side, fds);
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	return fcntl(fds[own], F_SETFL, O_NONBLOCK) ? -errno : 0;
}

/* Fills the accept queue, until a connect gets no answer; the listening socket knows the others. */
int tcp_connecting(int family, int *listening)
{
	struct sockaddr_storage addr;
	socklen_t len;
	int fd, i;

	*listening = tcp_listen(family, &addr, &len);
	if (*listening < 0 || listen(*listening, 0))
		return -1;
	for (i = 0; i < 64; i++) {
		fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd < 0 || (connect(fd, (void *)&addr, len) && errno != EINPROGRESS))
			return -1;
		if (!poll_fd(fd, POLLOUT, 300))
			return fd;
		close(fd);
	}
	return -1;
}

int relay_open(struct relay *r, enum net net)
{
	int fds[2], err;

	*r = (struct relay){ -1, -1, -1, -1 };
	err = side_open(net, false, fds);
	if (err)
		return err;
	/* pipe() has the readable end first */
	r->c = fds[is_fifo(fds[0])];
	r->a = fds[!is_fifo(fds[0])];
	err = side_open(net, true, fds);
	if (err) {
		relay_close(r);
		return err;
	}
	r->b = fds[is_fifo(fds[0])];
	r->s = fds[!is_fifo(fds[0])];
	return 0;
}

void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void relay_close(struct relay *r)
{
	close_fd(&r->c);
	close_fd(&r->a);
	close_fd(&r->b);
	close_fd(&r->s);
}
