// SPDX-License-Identifier: GPL-2.0
/*
 * refuse.c: what is refused, and how: one errno, one test. Each operation refuses it in either
 * place, says why, and has done nothing to either socket.
 */
#include "harness.h"

#include <linux/bpf.h>
#include <linux/netlink.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/un.h>

#define SEED 1

FIXTURE(refuse) {
	struct spl *s;
	struct relay r;
};

FIXTURE_VARIANT(refuse) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

VARIANT(refuse, kmod_v4, .engine = SPL_ENGINE_KMOD, .net = NET_V4);
VARIANT(refuse, kmod_v6, .engine = SPL_ENGINE_KMOD, .net = NET_V6);
VARIANT(refuse, kmod_mapped, .engine = SPL_ENGINE_KMOD, .net = NET_MAPPED);
KMOD_UNIX(refuse);
VARIANT(refuse, kmod_tls, .engine = SPL_ENGINE_KMOD, .net = NET_TLS);
VARIANT(refuse, kmod_tcp2tls, .engine = SPL_ENGINE_KMOD, .net = NET_TCP_TO_TLS);
USER_SOCKETS(refuse);
VARIANT(refuse, user_tls, .engine = SPL_ENGINE_USER, .net = NET_TLS);

FIXTURE_SETUP(refuse)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(refuse)
{
	spl_close(self->s);
	relay_close(&self->r);
}

static int do_forward(struct spl *s, int source, int sink, uint64_t *token)
{
	return spl_forward(s, source, sink, SPL_ALL, NULL, token);
}

static int do_splice(struct spl *s, int source, int sink, uint64_t *token)
{
	return spl_splice(s, source, sink, NULL, token);
}

static int do_pair(struct spl *s, int source, int sink, uint64_t *token)
{
	return spl_splice_pair(s, source, sink, NULL, token);
}

static const struct op {
	const char *name;
	int (*start)(struct spl *s, int source, int sink, uint64_t *token);
} ops[] = {
	{ "forward", do_forward }, { "splice", do_splice }, { "pair", do_pair },
};

/* With these two ends each operation answers err, and says why. */
#define refused(source, sink, err)							\
	do {										\
		bool __before[2] = { fd_open(source), fd_open(sink) };			\
		uint64_t __token = 4711;						\
		unsigned int __i;							\
		for (__i = 0; __i < ARRAY_SIZE(ops); __i++) {				\
			EXPECT_EQ(-(err), ops[__i].start(self->s, source, sink, &__token)) { \
				TH_LOG("%s: %s", ops[__i].name, spl_strerror_last(self->s)); \
			}								\
			EXPECT_LT(0, strlen(spl_strerror_last(self->s))) {		\
				TH_LOG("%s gives no reason", ops[__i].name);		\
			}								\
			ASSERT_EQ(__before[0], fd_open(source));			\
			ASSERT_EQ(__before[1], fd_open(sink));				\
		}									\
		EXPECT_EQ(0, no_event(self->s));					\
	} while (0)

/* In either place, and the good socket beside it is as before. */
#define refused_either_way(fd, err)						\
	do {									\
		refused(fd, self->r.b, err);					\
		refused(self->r.a, fd, err);					\
		EXPECT_EQ(0, alive(self->r.c, self->r.a));			\
		EXPECT_EQ(0, alive(self->r.b, self->r.s));			\
	} while (0)

TEST_F(refuse, closed_fd)
{
	int fd = dup(self->r.a);

	close(fd);
	refused_either_way(fd, EBADF);
	refused_either_way(-1, EBADF);
}

TEST_F(refuse, path_fd)
{
	int fd = open("/", O_PATH);

	ASSERT_LE(0, fd);
	refused_either_way(fd, EBADF);
	close(fd);
}

TEST_F(refuse, no_socket)
{
	int file = open("/proc/self/exe", O_RDONLY), ep = epoll_create1(0);

	ASSERT_LE(0, file);
	refused_either_way(file, ENOTSOCK);
	refused_either_way(ep, ENOTSOCK);
	close(file);
	close(ep);
}

NEEDS(refuse, pipe, NEEDS_KMOD);
TEST_F(refuse, pipe)
{
	int fds[2];

	ASSERT_EQ(0, pipe(fds));
	refused_either_way(fds[0], ENOTSOCK);
	refused_either_way(fds[1], ENOTSOCK);
}

TEST_F(refuse, datagram)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int udp = socket(AF_INET, SOCK_DGRAM, 0), fds[2];

	ASSERT_EQ(0, connect(udp, (void *)&to, sizeof(to)));
	refused_either_way(udp, EPROTONOSUPPORT);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, fds));
	refused_either_way(fds[0], EPROTONOSUPPORT);
	close(udp);
}

/* Only root may have one. */
NEEDS(refuse, raw, NEEDS_KMOD);
TEST_F(refuse, raw)
{
	int v4 = socket(AF_INET, SOCK_RAW, IPPROTO_TCP), v6 = socket(AF_INET6, SOCK_RAW, 17);

	ASSERT_LE(0, v4);
	ASSERT_LE(0, v6);
	refused_either_way(v4, EPROTONOSUPPORT);
	refused_either_way(v6, EPROTONOSUPPORT);
}

TEST_F(refuse, netlink)
{
	int nl = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);

	ASSERT_LE(0, nl);
	refused_either_way(nl, EPROTONOSUPPORT);
	close(nl);
}

TEST_F(refuse, seqpacket)
{
	int fds[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds));
	refused_either_way(fds[0], EPROTONOSUPPORT);
}

TEST_F(refuse, listening)
{
	struct sockaddr_storage addr;
	socklen_t len;
	int fd = tcp_listen(variant->net == NET_V6 ? AF_INET6 : AF_INET, &addr, &len);

	ASSERT_LE(0, fd);
	refused_either_way(fd, EOPNOTSUPP);
	close(fd);
}

TEST_F(refuse, unix_not_connected)
{
	struct sockaddr_un any = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	refused_either_way(fd, ENOTCONN);
	ASSERT_EQ(0, bind(fd, (void *)&any, sizeof(any.sun_family)));
	refused_either_way(fd, ENOTCONN);
	ASSERT_EQ(0, listen(fd, 1));
	refused_either_way(fd, EOPNOTSUPP);
	close(fd);
}

TEST_F(refuse, never_connected)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	int v4 = socket(AF_INET, SOCK_STREAM, 0), v6 = socket(AF_INET6, SOCK_STREAM, 0);

	refused_either_way(v4, ENOTCONN);
	refused_either_way(v6, ENOTCONN);
	ASSERT_EQ(0, bind(v4, (void *)&any, sizeof(any)));
	refused_either_way(v4, ENOTCONN);
	close(v4);
	close(v6);
}

/* Both have said their FIN. */
NEEDS(refuse, connection_over, NEEDS_TCP);
TEST_F(refuse, connection_over)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);
	struct relay over;
	uint64_t until = now_ms() + WAIT_MS;

	ASSERT_EQ(0, relay_open(&over, variant->net));
	ASSERT_EQ(0, fin(&over.c));
	ASSERT_EQ(0, at_eof(over.a));
	ASSERT_EQ(0, fin(&over.a));
	ASSERT_EQ(0, at_eof(over.c));
	do {
		ASSERT_EQ(0, getsockopt(over.a, IPPROTO_TCP, TCP_INFO, &info, &len));
		ASSERT_GT(until, now_ms());
	} while (info.tcpi_state != TCP_CLOSE);
	refused_either_way(over.a, ENOTCONN);
	relay_close(&over);
}

NEEDS(refuse, connection_reset, NEEDS_TCP_CLIENT);
TEST_F(refuse, connection_reset)
{
	struct relay over;

	ASSERT_EQ(0, relay_open(&over, variant->net));
	ASSERT_EQ(0, tcp_reset(&over.c));
	ASSERT_EQ(0, at_reset(over.a));
	refused_either_way(over.a, ENOTCONN);
	relay_close(&over);
}

NEEDS(refuse, connecting, NEEDS_TCP);
TEST_F(refuse, connecting)
{
	int listening, fd = tcp_connecting(variant->net == NET_V6 ? AF_INET6 : AF_INET, &listening);

	ASSERT_LE(0, fd);
	refused_either_way(fd, EINPROGRESS);
	close(fd);
	close(listening);
}

/* A busy half, for every operation that would want it. */
TEST_F(refuse, copying)
{
	struct relay more;
	struct spl_event ev;
	uint64_t token;

	ASSERT_EQ(0, relay_open(&more, variant->net));
	ASSERT_EQ(0, spl_forward(self->s, self->r.a, self->r.b, 10, NULL, &token));
	refused(self->r.a, more.b, EBUSY);
	refused(more.a, self->r.b, EBUSY);
	refused(self->r.a, self->r.b, EBUSY);
	EXPECT_EQ(0, alive(more.c, more.a));
	EXPECT_EQ(0, alive(more.b, more.s));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 11));
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(SPL_DONE, ev.cause);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 10));
	EXPECT_EQ(0, take(self->r.a, SEED, 10, 1));
	relay_close(&more);
}

/* A pair wants the halves too that a forward has left free; a splice wants its two only. */
TEST_F(refuse, half_copying)
{
	struct relay more;
	uint64_t token, other;

	ASSERT_EQ(0, relay_open(&more, variant->net));
	ASSERT_EQ(0, spl_forward(self->s, self->r.a, self->r.b, 10, NULL, &token));
	EXPECT_EQ(-EBUSY, spl_splice_pair(self->s, more.a, self->r.a, NULL, &other));
	EXPECT_EQ(-EBUSY, spl_splice_pair(self->s, self->r.b, more.a, NULL, &other));
	EXPECT_EQ(0, alive(more.a, more.c));
	EXPECT_EQ(0, spl_forward(self->s, more.a, self->r.a, 1, NULL, &other));
	EXPECT_EQ(0, put(more.c, SEED, 0, 1));
	EXPECT_EQ(0, take(self->r.c, SEED, 0, 1));
	relay_close(&more);
}

static int sockmap_with(int fd)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_SOCKMAP, .key_size = 4, .value_size = 4,
				.max_entries = 1 };
	uint32_t key = 0, value = fd;
	int map = syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)), err;

	if (map < 0)
		return -errno;
	attr = (union bpf_attr){ .map_fd = map, .key = (uintptr_t)&key,
				 .value = (uintptr_t)&value };
	if (!syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof(attr)))
		return map;
	err = -errno;
	close(map);
	return err;
}

/* Where TLS is, the kernel lets no map in. */
NEEDS(refuse, in_a_sockmap, NEEDS_KMOD | NEEDS_PLAIN);
TEST_F(refuse, in_a_sockmap)
{
	int map = sockmap_with(self->r.a);

	if (map < 0)
		SKIP(return, "no sockmap here: %s", strerror(-map));
	refused(self->r.a, self->r.b, EBUSY);
	refused(self->r.b, self->r.a, EBUSY);
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
	close(map);
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
}

/* The two sockets of one connection: bytes would go round for ever. */
TEST_F(refuse, loop)
{
	refused(self->r.c, self->r.a, ELOOP);
	refused(self->r.a, self->r.c, ELOOP);
	refused(self->r.b, self->r.s, ELOOP);
	refused(self->r.s, self->r.b, ELOOP);
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

/* Both halves of a socket with both halves of the same one: that is no pair. */
TEST_F(refuse, pair_with_itself)
{
	uint64_t token;

	EXPECT_GT(0, spl_splice_pair(self->s, self->r.a, self->r.a, NULL, &token));
	EXPECT_LT(0, strlen(spl_strerror_last(self->s)));
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
}

/* A handshake that is not over: nobody has the keys yet, and plaintext must not get out. CONNECTING is about TCP. */
NEEDS(refuse, tls_without_keys, NEEDS_TCP | NEEDS_PLAIN | NEEDS_KMOD);
TEST_F(refuse, tls_without_keys)
{
	struct spl_opts *connecting = OPTS(.flags = SPL_F_CONNECTING);
	uint64_t token;

	ASSERT_EQ(0, tls_attach(self->r.a));
	refused(self->r.a, self->r.b, EINPROGRESS);
	refused(self->r.b, self->r.a, EINPROGRESS);
	EXPECT_EQ(-EINPROGRESS, spl_forward(self->s, self->r.b, self->r.a, 1, connecting, &token));
	EXPECT_EQ(-EINPROGRESS, spl_splice_pair(self->s, self->r.b, self->r.a, connecting, &token));
	EXPECT_EQ(-EINPROGRESS, spl_send(self->s, self->r.a, "x", 1, NULL, &token));
	EXPECT_EQ(-EINPROGRESS, spl_writeable(self->s, self->r.a));
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

NEEDS(refuse, mptcp, NEEDS_KMOD);
TEST_F(refuse, mptcp)
{
	struct sockaddr_storage addr;
	socklen_t len;
	int listening = tcp_listen(AF_INET, &addr, &len);
	int fd = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP), peer;

	ASSERT_LE(0, listening);
	if (fd < 0)
		SKIP(return, "no MPTCP here: %s", strerror(errno));
	ASSERT_EQ(0, connect(fd, (void *)&addr, len));
	peer = accept(listening, NULL, NULL);
	ASSERT_LE(0, peer);
	refused_either_way(fd, EPROTONOSUPPORT);
	EXPECT_EQ(0, alive(fd, peer));
}

/* A sink already shut down: told, one way or the other, and no byte is eaten. */
TEST_F(refuse, sink_shut_down)
{
	struct spl_event ev = { .cause = SPL_SINK_FAILED, .error = EPIPE };
	uint64_t token;
	int ret;

	ASSERT_EQ(0, shutdown(self->r.b, SHUT_WR));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100));
	ASSERT_EQ(0, wait_queued(self->r.a, 100));
	ret = spl_forward(self->s, self->r.a, self->r.b, 10, NULL, &token);
	if (!ret) {
		ASSERT_EQ(0, event_of(self->s, token, &ev));
	} else {
		EXPECT_TRUE(ret == -ENOTCONN || ret == -EPIPE);
	}
	EXPECT_EQ(SPL_SINK_FAILED, ev.cause);
	EXPECT_EQ(EPIPE, ev.error);
	EXPECT_EQ(0, take(self->r.a, SEED, 0, 100));
}

SUITE_MAIN
