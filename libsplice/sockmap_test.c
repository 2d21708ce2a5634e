// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * Does the kernel do what the engine needs? Once in a process a few bytes are redirected on a connection of our own: they must
 * arrive, in order, and be counted for the peer as long as it has not read them. Kernels before 6.1.122, and of the 6.12 series
 * before 6.12.4, do not count them: nothing would bound what waits for a peer.
 */
#define _GNU_SOURCE
#ifdef __x86_64__
#include <cpuid.h>
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "sockmap.h"

#define PIECE 4096	/* a page, and so a place in a pipe */

static bool is_other_end(int a, int b)
{
	struct sockaddr_in local = { 0 }, remote = { 0 };
	socklen_t len = sizeof(local);

	return !getsockname(a, (struct sockaddr *)&local, &len) && !getpeername(b, (struct sockaddr *)&remote, &len) &&
	       local.sin_port == remote.sin_port && local.sin_addr.s_addr == remote.sin_addr.s_addr;
}

/* fds: listening, connected, accepted. False: the loopback device does not serve, or not within a second. */
bool sockmap_test_connect(int fds[3])
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval second = { .tv_sec = 1 };
	socklen_t len = sizeof(sin);

	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fds[0] < 0 || fds[1] < 0 || setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second)) ||
	    setsockopt(fds[1], SOL_SOCKET, SO_SNDTIMEO, &second, sizeof(second)) || bind(fds[0], (struct sockaddr *)&sin, len) || listen(fds[0], 4) ||
	    getsockname(fds[0], (struct sockaddr *)&sin, &len) || connect(fds[1], (struct sockaddr *)&sin, len))
		return false;
	/* somebody else may have been quicker */
	while ((fds[2] = accept4(fds[0], NULL, NULL, SOCK_CLOEXEC)) >= 0 && !is_other_end(fds[1], fds[2]))
		close(fds[2]);
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

	errno = EIO;	/* of a part that was sent */
	if (send(from, "hop", 3, MSG_DONTWAIT | MSG_NOSIGNAL) != 3 || send(from, "ped..", 5, MSG_DONTWAIT | MSG_NOSIGNAL) != 5)
		return spl_refuse(s, -EOPNOTSUPP, "the kernel does not redirect: %s", strerror(errno));
	if (queued(to) != 8)
		return spl_refuse(s, -EOPNOTSUPP, "the kernel does not count redirected bytes: nothing would bound them");
	n = recv(to, got, 8, MSG_DONTWAIT);
	if (n != 8 || memcmp(got, "hopped..", 8) || queued(to))
		return spl_refuse(s, -EOPNOTSUPP, "the kernel does not deliver what was redirected");
	return 0;
}

static uint64_t messages(int fd)
{
	struct local_hop h = { 0 };

	return bpf_map_lookup_elem(sockmap_load_maps()->hops, &fd, &h) ? 0 : h.msgs;
}

/* Is what a pipe brings one message, however many pages it is in? Before 6.5 each of them is a message, and far too many are. */
static bool takes_pipe(int from, int to, const int pipe[2])
{
	uint64_t before = messages(from);
	char piece[PIECE] = { 0 };
	bool one;

	if (write(pipe[1], piece, PIECE) != PIECE || write(pipe[1], piece, PIECE) != PIECE ||
	    splice(pipe[0], NULL, from, NULL, 2 * PIECE, SPLICE_F_NONBLOCK) != 2 * PIECE)
		return false;
	one = messages(from) == before + 1;
	return recv(to, piece, PIECE, MSG_DONTWAIT) == PIECE && recv(to, piece, PIECE, MSG_DONTWAIT) == PIECE && one;
}

static bool splices(int from, int to)
{
	int fds[2];
	bool does;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		return false;
	does = takes_pipe(from, to, fds);
	close(fds[0]);
	close(fds[1]);
	return does;
}

/* Without it newer kernels refuse storage for sockets. */
static bool has_cmpxchg16b(void)
{
#ifdef __x86_64__
	unsigned int a, b, c = 0, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_CMPXCHG16B);
#else
	return true;
#endif
}

static int try(struct spl *s, int fds[3], bool *tried, bool *pipes)
{
	struct local_key sink, peer;
	uint64_t value = (uint64_t)fds[2];
	int r;

	if (!sockmap_hop_name(fds[1], &sink, &peer))
		return spl_refuse(s, -EOPNOTSUPP, "the kernel does not name network namespaces");
	/* another process's already: what worked there works here, but nothing was seen of it */
	if (bpf_map_update_elem(sockmap_load_maps()->peers, &peer, &value, BPF_ANY))
		return errno == EBUSY ? 0 : spl_refuse(s, -EOPNOTSUPP, "no sockmap for TCP: %s", strerror(errno));
	r = sockmap_hop_enter(fds[1], &peer, false);
	if (r && r != -EBUSY && !has_cmpxchg16b())
		return spl_refuse(s, -EOPNOTSUPP, "the kernel gives sockets no storage on a processor without cmpxchg16b: %s", strerror(-r));
	if (r)
		return r == -EBUSY ? 0 : spl_refuse(s, -EOPNOTSUPP, "no program for a socket: %s", strerror(-r));
	r = exchange(s, fds[1], fds[2]);
	*tried = !r;
	*pipes = !r && splices(fds[1], fds[2]);
	return r;
}

/* *pipes: splice(2) into a socket that hops is worth while. *tried: it was found out. */
int sockmap_test(struct spl *s, bool *tried, bool *pipes)
{
	int fds[3] = { -1, -1, -1 }, i, r;

	/* what a kernel was not seen to do is not relied on */
	r = sockmap_test_connect(fds) ? try(s, fds, tried, pipes) : spl_refuse(s, -EOPNOTSUPP, "no loopback device to try the kernel on");
	for (i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return r;
}
