// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* sockmap_tcp.c: what the kernel tells about a TCP socket, whoever moves its bytes. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/sockios.h>
#include <linux/types.h>
#include <netinet/in.h>

#include "sockmap_tcp.h"

int sockmap_tcp_info(int fd, struct tcp_info *info)
{
	socklen_t len = sizeof(*info);

	memset(info, 0, len);
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len) ? -errno : 0;
}

/*
 * What TCP has accepted from whoever wrote: what is acknowledged, and what is not. By what was sent it cannot be told: what the
 * device or a filter here refuses is counted then, and again the next time.
 */
int sockmap_tcp_written(int fd, uint64_t *count)
{
	struct tcp_info before, after;
	int waiting;

	do {
		if (sockmap_tcp_info(fd, &before) || ioctl(fd, SIOCOUTQ, &waiting) || sockmap_tcp_info(fd, &after))
			return -errno;
	} while (before.tcpi_bytes_acked != after.tcpi_bytes_acked);
	*count = after.tcpi_bytes_acked + (uint64_t)waiting;
	return 0;
}

/* Not SIOCINQ: of a socket in a map newer kernels count with it what a program has put there, and nothing else. */
static ssize_t waits(int fd)
{
	ssize_t n = recv(fd, NULL, INT_MAX, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);

	return n < 0 && errno == EAGAIN ? 0 : n;
}

/* How many bytes have been read. No FIN has come. Two figures, and between them more may come. */
int sockmap_tcp_read(int fd, uint64_t *count)
{
	struct tcp_info before, after;
	ssize_t waiting;

	do {
		if (sockmap_tcp_info(fd, &before) || (waiting = waits(fd)) < 0 || sockmap_tcp_info(fd, &after))
			return -errno;
	} while (before.tcpi_bytes_received != after.tcpi_bytes_received);
	*count = after.tcpi_bytes_received - (uint64_t)waiting;
	return 0;
}

/* Of bytes that were peeked at, and that a sink has: if the source does not give up exactly these, nothing is right any more. */
int sockmap_tcp_consume(int fd, size_t len)
{
	ssize_t n;

	while (len) {
		n = recv(fd, NULL, len, MSG_TRUNC | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		len -= (size_t)n;
	}
	return 0;
}

static bool may_send(int fd)
{
	struct tcp_info info;

	return !sockmap_tcp_info(fd, &info) &&
	       (info.tcpi_state == SOCKMAP_TCP_ESTABLISHED || info.tcpi_state == SOCKMAP_TCP_CLOSE_WAIT);
}

/*
 * By a send of nothing, which takes it under the lock. SO_ERROR takes it at any moment, also between two looks of a worker
 * that sends there what another source has brought: he takes the missing error for a broken pipe, and stops for good.
 */
int sockmap_tcp_error(int fd)
{
	socklen_t len = sizeof(int);
	int error = send(fd, NULL, 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;

	/* what says so of every send is no error, and nobody sends there any more */
	if (error == EPIPE && !may_send(fd) && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = 0;
	return error == EAGAIN ? 0 : error;	/* that is the parser's */
}

static int option(int fd, int name)
{
	socklen_t len = sizeof(int);
	int value;

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) ? -errno : value;
}

bool sockmap_tcp_plain(int fd)
{
	char ulp[16];
	socklen_t len = sizeof(ulp);
	int family = option(fd, SO_DOMAIN);

	return (family == AF_INET || family == AF_INET6) && option(fd, SO_TYPE) == SOCK_STREAM &&
	       option(fd, SO_PROTOCOL) == IPPROTO_TCP && !option(fd, SO_ACCEPTCONN) &&
	       !getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len) && !len;
}

int sockmap_tcp_name(int fd, enum sockmap_half half, struct sockmap_end *end)
{
	socklen_t len = sizeof(end->cookie);

	end->half = half;
	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &end->cookie, &len) ? -errno : 0;
}

/* The kernel skips urgent data only for who reads. */
bool sockmap_tcp_urgent(int fd)
{
	int mark;

	return !ioctl(fd, SIOCATMARK, &mark) && mark;
}

bool sockmap_tcp_open(unsigned int state)
{
	return state == SOCKMAP_TCP_ESTABLISHED || state == SOCKMAP_TCP_FIN_WAIT1 || state == SOCKMAP_TCP_FIN_WAIT2;
}
