// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * Does the kernel do what the engine needs? Once in a process a few bytes are redirected on a connection of our own: they must
 * arrive, in order, and be counted for the peer as long as it has not read them. Kernels before 6.1.122, and of the 6.12 series
 * before 6.12.4, do not count them: nothing would bound what waits for a peer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "sockmap.h"

#define NAME UINT64_MAX			/* in "sinks": no inode has it */

/* fds: listening, connected, accepted. False: the loopback device does not serve, or not within a second. */
bool sockmap_test_connect(int fds[3])
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval second = { .tv_sec = 1 };
	socklen_t len = sizeof(sin);

	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fds[0] < 0 || fds[1] < 0 || setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second)) ||
	    setsockopt(fds[1], SOL_SOCKET, SO_SNDTIMEO, &second, sizeof(second)) || bind(fds[0], (struct sockaddr *)&sin, len) || listen(fds[0], 1) ||
	    getsockname(fds[0], (struct sockaddr *)&sin, &len) || connect(fds[1], (struct sockaddr *)&sin, len))
		return false;
	fds[2] = accept4(fds[0], NULL, NULL, SOCK_CLOEXEC);
	return fds[2] >= 0;
}

static uint32_t queued(int fd)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(info);

	getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len);
	return info[SK_MEMINFO_RMEM_ALLOC];
}

static int exchange(struct spl *s, int from, int to)
{
	char got[9] = { 0 };
	ssize_t n;

	if (send(from, "hop", 3, MSG_DONTWAIT | MSG_NOSIGNAL) != 3 || send(from, "ped..", 5, MSG_DONTWAIT | MSG_NOSIGNAL) != 5)
		return spl_refuse(s, -EOPNOTSUPP, "the kernel does not redirect: %s", strerror(errno));
	if (queued(to) != 8)
		return spl_refuse(s, -EOPNOTSUPP, "the kernel does not count redirected bytes: nothing would bound them");
	n = recv(to, got, 8, MSG_DONTWAIT);
	if (n != 8 || memcmp(got, "hopped..", 8) || queued(to))
		return spl_refuse(s, -EOPNOTSUPP, "the kernel does not deliver what was redirected");
	return 0;
}

static int try(struct spl *s, int fds[3])
{
	struct local_key sink, peer;
	uint64_t value = (uint64_t)fds[2];

	if (!sockmap_hop_name(fds[1], &sink, &peer))
		return spl_refuse(s, -EOPNOTSUPP, "the kernel does not name network namespaces");
	/* another process's already: what worked there works here */
	if (bpf_map_update_elem(sockmap_load_maps()->peers, &peer, &value, BPF_ANY))
		return errno == EBUSY ? 0 : spl_refuse(s, -EOPNOTSUPP, "no sockmap for TCP: %s", strerror(errno));
	if (!sockmap_hop_enter(fds[1], NAME, &peer, false))
		return errno == EBUSY ? 0 : spl_refuse(s, -EOPNOTSUPP, "no program for a socket: %s", strerror(errno));
	return exchange(s, fds[1], fds[2]);
}

int sockmap_test(struct spl *s)
{
	int fds[3] = { -1, -1, -1 }, i, r;

	/* what a kernel was not seen to do is not relied on */
	r = sockmap_test_connect(fds) ? try(s, fds) : spl_refuse(s, -EOPNOTSUPP, "no loopback device to try the kernel on");
	for (i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return r;
}
