// SPDX-License-Identifier: GPL-2.0
/* sockmap_peers.c: local mode with peers that come in another way than most, with the first bytes, or go while they are sent to. */
#define _GNU_SOURCE
#include "hopped.h"
#include "cgroup.h"

#include <bpf/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

/* ---- TCP Fast Open */

#define SYN_DATA	32	/* TCPI_OPT_SYN_DATA */

/* In a network namespace of its own, where bytes may come with a SYN. */
static int enter_fast_net(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd, up;
	FILE *f;

	if (unshare(CLONE_NEWNET))
		return -errno;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	up = ioctl(fd, SIOCSIFFLAGS, &lo);
	close(fd);
	f = fopen("/proc/sys/net/ipv4/tcp_fastopen", "w");
	if (!f || up)
		return -EPERM;
	fputs("3", f);
	return fclose(f) ? -errno : 0;
}

/* fds[1] was accepted; the first bytes came with the SYN, and are still there. */
static int fast_pair(int fds[2], const void *first, size_t len)
{
	struct tcp_info info = { 0 };
	struct sockaddr_storage at;
	socklen_t size, info_size = sizeof(info);
	int listening = tcp_listen(AF_INET, &at, &size);

	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (set_opt(listening, IPPROTO_TCP, TCP_FASTOPEN, 5) || set_opt(listening, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1) ||
	    set_opt(fds[0], IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1) ||
	    sendto(fds[0], first, len, MSG_FASTOPEN, (struct sockaddr *)&at, size) != (ssize_t)len)
		return -errno;
	fds[1] = accept(listening, NULL, NULL);
	close(listening);
	return fds[1] >= 0 && !getsockopt(fds[1], IPPROTO_TCP, TCP_INFO, &info, &info_size) && info.tcpi_options & SYN_DATA ? 0 : -EPROTO;
}

/* Its peers are not learned: what is sent to them comes behind what came with the SYN, through TCP. */
TEST_F(sockmap, fast_open)
{
	uint8_t first[1000];
	uint64_t token;
	int fds[2];

	relay_close(&self->r);
	ASSERT_EQ(0, enter_fast_net());
	ASSERT_EQ(0, tcp_pair(NET_V4, true, fds));
	self->r.c = fds[0];
	self->r.a = fds[1];
	pattern_fill(first, sizeof(first), SEED, 0);
	ASSERT_EQ(0, fast_pair(fds, first, sizeof(first)));
	self->r.b = fds[0];
	self->r.s = fds[1];
	EXPECT_EQ(2, COUNTED(LEARNED));
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 1000, 50000));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 51000));
	EXPECT_EQ(0, COUNTED(BYTES));
	ASSERT_EQ(0, put(self->r.s, SEED, 0, 50000));
	ASSERT_EQ(0, take(self->r.c, SEED, 0, 50000));
	EXPECT_LT(0, COUNTED(BYTES));
}

/* ---- TCP_DEFER_ACCEPT */

/* Its side of the connection is there only with the first bytes: those go by TCP, later ones by the hop. */
TEST_F(sockmap, peer_that_comes_with_the_first_bytes)
{
	struct sockaddr_storage at;
	uint64_t token, pos;
	socklen_t len;
	int listening = tcp_listen(AF_INET, &at, &len);

	close_fd(&self->r.b);
	close_fd(&self->r.s);
	ASSERT_EQ(0, set_opt(listening, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5));
	self->r.b = socket(AF_INET, SOCK_STREAM, 0);
	ASSERT_EQ(0, connect(self->r.b, (struct sockaddr *)&at, len));
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	self->r.s = accept(listening, NULL, NULL);
	ASSERT_LE(0, self->r.s);
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 1000));
	EXPECT_EQ(0, COUNTED(BYTES));
	for (pos = 1000; pos < 11000; pos += 1000) {
		ASSERT_EQ(0, put(self->r.c, SEED, pos, 1000));
		ASSERT_EQ(0, wait_queued(self->r.s, 1000));
		ASSERT_EQ(0, take(self->r.s, SEED, pos, 1000));
	}
	EXPECT_EQ(10000, COUNTED(BYTES));
	close(listening);
}

/* ---- a peer that has gone from the map when it is redirected to */

/* Of the map "peers" of this process, the newest that has the key. */
static int forget(int fd)
{
	struct sockaddr_in own = { 0 }, remote = { 0 };
	struct local_key k = { .local[2] = htonl(0xffff), .remote[2] = htonl(0xffff) };
	struct bpf_map_info info;
	socklen_t len = sizeof(own);
	uint32_t id = 0, size;
	int map, gone = -ENOENT;

	getsockname(fd, (struct sockaddr *)&own, &len);
	getpeername(fd, (struct sockaddr *)&remote, &len);
	len = sizeof(k.netns);
	getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &k.netns, &len);
	k.local[3] = own.sin_addr.s_addr;
	k.remote[3] = remote.sin_addr.s_addr;
	k.local_port = ntohs(own.sin_port);
	k.remote_port = ntohs(remote.sin_port);
	while (!bpf_map_get_next_id(id, &id) && (map = bpf_map_get_fd_by_id(id)) >= 0) {
		memset(&info, 0, sizeof(info));
		size = sizeof(info);
		if (!bpf_obj_get_info_by_fd(map, &info, &size) && !strcmp(info.name, "peers") && !bpf_map_delete_elem(map, &k))
			gone = 0;
		close(map);
	}
	return gone;
}

static int connect_b(void *arg)
{
	struct served { struct sockaddr_storage at; socklen_t len; int fd; } *to = arg;

	to->fd = socket(AF_INET, SOCK_STREAM, 0);
	return connect(to->fd, (struct sockaddr *)&to->at, to->len) ? -errno : 0;
}

/* The relay's end is of another cgroup: the send that fails is sent once more, by TCP, and is not counted as redirected. */
TEST_F(sockmap, peer_gone_goes_on_by_tcp)
{
	struct { struct sockaddr_storage at; socklen_t len; int fd; } to;
	int listening = tcp_listen(AF_INET, &to.at, &to.len);
	uint64_t token;

	close_fd(&self->r.b);
	close_fd(&self->r.s);
	ASSERT_EQ(0, cgroup_outside(connect_b, &to));
	self->r.b = to.fd;
	self->r.s = accept(listening, NULL, NULL);
	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 1000));
	EXPECT_EQ(1000, COUNTED(BYTES));
	ASSERT_EQ(0, forget(self->r.s));
	ASSERT_EQ(0, put(self->r.c, SEED, 1000, 5000));
	ASSERT_EQ(0, take(self->r.s, SEED, 1000, 5000));
	EXPECT_EQ(1000, COUNTED(BYTES));
	EXPECT_EQ(0, COUNTED(PASSED_BYTES));
	close(listening);
}

/* Where it was learned itself the kernel refuses all that it sends from then on: it ends as if its peer had closed. */
TEST_F(sockmap, peer_gone_ends_who_was_learned)
{
	struct spl_event ev;
	uint64_t token;

	if (variant->net != NET_V4)
		SKIP(return, "the key is that of an IPv4 connection");
	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 1000));
	ASSERT_EQ(0, forget(self->r.s));
	ASSERT_EQ(0, put(self->r.c, SEED, 1000, 1000));
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(SPL_SINK_FAILED, ev.cause);
	EXPECT_EQ(EPIPE, ev.error);
	EXPECT_EQ(1000, ev.bytes);
	EXPECT_EQ(1000, COUNTED(BYTES));
}

SUITE_MAIN
