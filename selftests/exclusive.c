// SPDX-License-Identifier: GPL-2.0
/* exclusive.c: a busy end refuses everybody else; the other half of its socket stays free. */
#include "harness.h"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define SEED 1

FIXTURE(exclusive) {
	struct spl *s;
	struct relay r;
	uint64_t token;
};

FIXTURE_VARIANT(exclusive) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_SOCKETS(exclusive);

FIXTURE_SETUP(exclusive)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(exclusive)
{
	spl_close(self->s);
	relay_close(&self->r);
}

/* A forward from a to b keeps both busy. */
#define start(n)	\
	do {									\
		need_cap(self->s, SPL_CAP_EXCLUSIVE);				\
		ASSERT_EQ(0, spl_forward(self->s, self->r.a, self->r.b, n, NULL,	\
					 &self->token)) {			\
			TH_LOG("refused: %s", spl_strerror_last(self->s));	\
		}								\
	} while (0)

#define stop()	\
	do {									\
		struct spl_event __ev;						\
		ASSERT_EQ(0, spl_cancel(self->s, self->token));			\
		ASSERT_EQ(0, event_of(self->s, self->token, &__ev));		\
		ASSERT_EQ(SPL_CANCELED, __ev.cause);				\
	} while (0)

#define expect_busy(call)					\
	do {							\
		errno = 0;					\
		EXPECT_EQ(-1, call);				\
		EXPECT_EQ(EBUSY, errno) {			\
			TH_LOG("%s: %m", #call);		\
		}						\
	} while (0)

TEST_F(exclusive, source_cannot_be_read)
{
	struct mmsghdr many = { .msg_hdr = { .msg_iovlen = 1 } };
	char buf[16];
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[2];

	many.msg_hdr.msg_iov = &iov;
	ASSERT_EQ(0, pipe(fds));
	start(SPL_ALL);
	expect_busy(read(self->r.a, buf, sizeof(buf)));
	expect_busy(readv(self->r.a, &iov, 1));
	expect_busy(recv(self->r.a, buf, sizeof(buf), 0));
	expect_busy(recv(self->r.a, buf, sizeof(buf), MSG_DONTWAIT));
	expect_busy(recv(self->r.a, buf, sizeof(buf), MSG_PEEK));
	expect_busy(recv(self->r.a, buf, sizeof(buf), MSG_TRUNC));
	expect_busy(recv(self->r.a, buf, sizeof(buf), MSG_OOB));
	expect_busy(recvmsg(self->r.a, &msg, 0));
	expect_busy(recvmmsg(self->r.a, &many, 1, 0, NULL));
	expect_busy(splice(self->r.a, NULL, fds[1], NULL, 16, 0));
	stop();
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
}

TEST_F(exclusive, sink_cannot_be_written)
{
	char buf[16] = "never sent";
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[2], file = open("/proc/self/exe", O_RDONLY);

	ASSERT_LE(0, file);
	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(sizeof(buf), write(fds[1], buf, sizeof(buf)));
	start(SPL_ALL);
	expect_busy(write(self->r.b, buf, sizeof(buf)));
	expect_busy(writev(self->r.b, &iov, 1));
	expect_busy(send(self->r.b, buf, sizeof(buf), 0));
	expect_busy(send(self->r.b, buf, sizeof(buf), MSG_DONTWAIT));
	expect_busy(send(self->r.b, buf, 1, MSG_OOB));
	expect_busy(sendmsg(self->r.b, &msg, 0));
	expect_busy(sendfile(self->r.b, file, NULL, 100));
	expect_busy(splice(fds[0], NULL, self->r.b, NULL, 16, 0));
	EXPECT_EQ(0, at_quiet(self->r.s));
	stop();
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

TEST_F(exclusive, other_halves_are_free)
{
	start(SPL_ALL);
	EXPECT_EQ(0, put(self->r.s, 2, 0, 5000));
	EXPECT_EQ(0, take(self->r.b, 2, 0, 5000));
	EXPECT_EQ(0, put(self->r.a, 3, 0, 5000));
	EXPECT_EQ(0, take(self->r.c, 3, 0, 5000));
	EXPECT_EQ(POLLOUT, poll_fd(self->r.a, POLLOUT, WAIT_MS));
	EXPECT_EQ(0, poll_fd(self->r.b, POLLIN, 0));
	ASSERT_EQ(0, put(self->r.s, 2, 5000, 1));
	EXPECT_EQ(POLLIN, poll_fd(self->r.b, POLLIN, WAIT_MS));
	/* and the flow goes on all the while */
	EXPECT_EQ(0, put(self->r.c, SEED, 0, 5000));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 5000));
}

/* Fills the sink, so that bytes stand in the source's queue; how many were sent. */
static int64_t fill(struct relay *r)
{
	struct stream tx = { .fd = r->c, .seed = SEED, .len = SPL_ALL };
	int err = stream_send(&tx), stuck;

	if (err)
		return err;
	stuck = stream_stuck(&tx, 300);
	tx.stop = true;
	err = stream_join(&tx);
	return stuck ? stuck : err ? err : (int64_t)tx.done;
}

/* A busy half is neither readable nor writable, whatever stands in its queue. */
TEST_F_TIMEOUT(exclusive, poll_is_silent, 120)
{
	struct epoll_event want = { .events = EPOLLIN | EPOLLRDHUP }, got;
	int ep = epoll_create1(0);
	struct spl_event ev;
	int64_t sent;

	start(SPL_ALL);
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, self->r.a, &want));
	want.events = EPOLLOUT;
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, self->r.b, &want));
	EXPECT_EQ(0, poll_fd(self->r.b, POLLOUT | POLLWRNORM, QUIET_MS));
	EXPECT_EQ(0, epoll_wait(ep, &got, 1, QUIET_MS));
	sent = fill(&self->r);
	ASSERT_LT(0, sent);
	/* the end of TLS is a record, for which there is no room */
	if (!is_tls(self->r.c))
		ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(0, poll_fd(self->r.a, POLLIN | POLLRDNORM | POLLRDHUP | POLLPRI, QUIET_MS));
	EXPECT_EQ(0, poll_fd(self->r.b, POLLOUT, QUIET_MS));
	EXPECT_EQ(0, epoll_wait(ep, &got, 1, QUIET_MS));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, sent));
	if (is_tls(self->r.c))
		ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(SPL_EOF, ev.cause);
	EXPECT_EQ(sent, ev.bytes);
}

struct sleeper {
	int fd;			/* poll: the socket; epoll: the epoll */
	bool epoll;
	volatile pid_t tid;
	int got;		/* revents */
	pthread_t thread;
};

static void *sleep_in_poll(void *arg)
{
	struct sleeper *p = arg;
	struct epoll_event ev;

	p->tid = syscall(SYS_gettid);
	if (p->epoll)
		p->got = epoll_wait(p->fd, &ev, 1, WAIT_MS) == 1 ? (int)ev.events : 0;
	else
		p->got = poll_fd(p->fd, POLLIN, WAIT_MS);
	return NULL;
}

static int sleeper_start(struct sleeper *p)
{
	int err = -pthread_create(&p->thread, NULL, sleep_in_poll, p);

	while (!err && !p->tid)
		usleep(1000);
	return err ? err : wait_blocked(p->tid);
}

static int sleeper_join(struct sleeper *p)
{
	pthread_join(p->thread, NULL);
	return p->got;
}

/* Sleeping in poll() on an end is not using it; who sleeps there is woken after the flow. */
TEST_F_TIMEOUT(exclusive, poll_is_woken, 90)
{
	struct epoll_event want = { .events = EPOLLIN }, edge = { .events = EPOLLIN | EPOLLET };
	int level_ep = epoll_create1(0), edge_ep = epoll_create1(0), i;
	struct sleeper p[6] = {
		{ .fd = self->r.a }, { .fd = level_ep, .epoll = true },
		{ .fd = edge_ep, .epoll = true },
	};
	uint64_t began;

	memcpy(p + 3, p, 3 * sizeof(*p));
	ASSERT_EQ(0, epoll_ctl(level_ep, EPOLL_CTL_ADD, self->r.a, &want));
	ASSERT_EQ(0, epoll_ctl(edge_ep, EPOLL_CTL_ADD, self->r.a, &edge));
	/* before the flow, and during: the edge can be had by one only */
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sleeper_start(p + i));
	}
	start(100);
	for (i = 3; i < 5; i++) {
		ASSERT_EQ(0, sleeper_start(p + i));
	}
	began = now_ms();
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 60));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 60));
	ASSERT_EQ(0, put(self->r.c, SEED, 60, 45));
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(POLLIN, sleeper_join(p + i)) {
			TH_LOG("sleeper %d", i);
		}
	}
	EXPECT_GT(WAIT_MS / 2, now_ms() - began);
	EXPECT_EQ(0, take(self->r.a, SEED, 100, 5));
}

/* The edge of a sink: writable again when the flow has ended. */
TEST_F(exclusive, edge_of_the_sink)
{
	struct epoll_event want = { .events = EPOLLOUT | EPOLLET }, got;
	int ep = epoll_create1(0);

	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, self->r.b, &want));
	ASSERT_EQ(1, epoll_wait(ep, &got, 1, WAIT_MS));
	start(10);
	EXPECT_EQ(0, epoll_wait(ep, &got, 1, QUIET_MS));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(1, epoll_wait(ep, &got, 1, WAIT_MS));
	EXPECT_EQ(EPOLLOUT, got.events);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 10));
	EXPECT_EQ(0, put(self->r.b, SEED, 10, 10));
	EXPECT_EQ(0, take(self->r.s, SEED, 10, 10));
}

/* The end of the stream wakes as bytes do. */
TEST_F(exclusive, end_wakes)
{
	struct sleeper p = { .fd = self->r.a };

	start(SPL_ALL);
	ASSERT_EQ(0, sleeper_start(&p));
	ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(POLLIN, sleeper_join(&p));
	EXPECT_EQ(0, at_eof(self->r.a));
}

TEST_F(exclusive, shutdown)
{
	start(SPL_ALL);
	expect_busy(shutdown(self->r.a, SHUT_RD));
	expect_busy(shutdown(self->r.a, SHUT_RDWR));
	expect_busy(shutdown(self->r.b, SHUT_WR));
	expect_busy(shutdown(self->r.b, SHUT_RDWR));
	EXPECT_EQ(0, put(self->r.c, SEED, 0, 100));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 100));
	EXPECT_EQ(0, shutdown(self->r.a, SHUT_WR));
	EXPECT_EQ(0, at_eof(self->r.c));
	EXPECT_EQ(0, shutdown(self->r.b, SHUT_RD));
	EXPECT_EQ(0, put(self->r.c, SEED, 100, 100));
	EXPECT_EQ(0, take(self->r.s, SEED, 100, 100));
	stop();
}

NEEDS(exclusive, disconnect, NEEDS_TCP);
TEST_F(exclusive, disconnect)
{
	struct sockaddr nowhere = { .sa_family = AF_UNSPEC };

	start(SPL_ALL);
	expect_busy(connect(self->r.a, &nowhere, sizeof(nowhere)));
	expect_busy(connect(self->r.b, &nowhere, sizeof(nowhere)));
	EXPECT_EQ(0, put(self->r.c, SEED, 0, 100));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 100));
}

static int set_ulp(int fd)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3);
}

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value));
}

NEEDS(exclusive, socket_options, NEEDS_TCP | NEEDS_PLAIN);
TEST_F(exclusive, socket_options)
{
	int family = get_opt(self->r.a, SOL_SOCKET, SO_DOMAIN);

	start(SPL_ALL);
	expect_busy(set_int(self->r.b, IPPROTO_TCP, TCP_NODELAY, 1));
	expect_busy(set_int(self->r.b, IPPROTO_TCP, TCP_CORK, 1));
	expect_busy(set_int(self->r.a, IPPROTO_TCP, TCP_REPAIR, 1));
	expect_busy(set_int(self->r.b, IPPROTO_TCP, TCP_REPAIR, 1));
	expect_busy(set_int(self->r.a, SOL_SOCKET, SO_RCVLOWAT, 100));
	expect_busy(set_ulp(self->r.a));
	expect_busy(set_ulp(self->r.b));
	if (family == AF_INET6) {
		expect_busy(set_int(self->r.a, IPPROTO_IPV6, IPV6_ADDRFORM, AF_INET));
		expect_busy(set_int(self->r.b, IPPROTO_IPV6, IPV6_ADDRFORM, AF_INET));
	}
	/* what concerns neither half works */
	EXPECT_EQ(0, set_opt(self->r.a, SOL_SOCKET, SO_KEEPALIVE, 1));
	EXPECT_EQ(0, set_opt(self->r.b, IPPROTO_TCP, TCP_KEEPIDLE, 10));
	EXPECT_EQ(1, get_opt(self->r.a, SOL_SOCKET, SO_KEEPALIVE));
	stop();
	EXPECT_EQ(0, set_opt(self->r.b, IPPROTO_TCP, TCP_NODELAY, 1));
	EXPECT_EQ(0, set_opt(self->r.a, SOL_SOCKET, SO_RCVLOWAT, 1));
}

/* It reads, though it is called getsockopt. */
NEEDS(exclusive, zerocopy_receive, NEEDS_TCP_CLIENT | NEEDS_PLAIN);
TEST_F(exclusive, zerocopy_receive)
{
	char buf[4096], zc[64] = { 0 };
	socklen_t len = 40;
	uint64_t copy = (uintptr_t)buf;
	int32_t copylen = sizeof(buf);

	/* struct tcp_zerocopy_receive: copybuf_address at 24, copybuf_len at 32 */
	memcpy(zc + 24, &copy, sizeof(copy));
	memcpy(zc + 32, &copylen, sizeof(copylen));
	start(SPL_ALL);
	expect_busy(getsockopt(self->r.a, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, zc, &len));
	EXPECT_EQ(0, put(self->r.c, SEED, 0, 100));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 100));
}

/* Somebody who is already inside recv() would steal bytes: refused, and he gets his byte. */
TEST_F(exclusive, blocked_reader)
{
	struct spl_event ev;
	uint64_t token;
	pid_t pid;
	char byte;

	need_cap(self->s, SPL_CAP_EXCLUSIVE);
	pid = fork();
	if (!pid)
		_exit(recv(self->r.a, &byte, 1, 0) == 1 ? 0 : 1);
	ASSERT_EQ(0, wait_blocked(pid));
	EXPECT_EQ(-EBUSY, spl_forward(self->s, self->r.a, self->r.b, SPL_ALL, NULL, &token));
	EXPECT_LT(0, strlen(spl_strerror_last(self->s)));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1));
	EXPECT_EQ(0, reap(pid));
	start(5);
	ASSERT_EQ(0, put(self->r.c, SEED, 1, 5));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(0, take(self->r.s, SEED, 1, 5));
}

TEST_F_TIMEOUT(exclusive, blocked_writer, 90)
{
	static char buf[1 << 20];
	struct spl_event ev;
	uint64_t token, sum = 0;
	ssize_t n;
	pid_t pid;

	need_cap(self->s, SPL_CAP_EXCLUSIVE);
	ASSERT_EQ(0, set_opt(self->r.b, SOL_SOCKET, SO_SNDBUF, 65536));
	pid = fork();
	if (!pid) {
		for (n = 1; n > 0 && sum < 16 * sizeof(buf); sum += n)
			n = send(self->r.b, buf, sizeof(buf), MSG_NOSIGNAL);
		_exit(n > 0 ? 0 : 1);
	}
	sleep_ms(300);
	ASSERT_EQ(0, wait_blocked(pid));
	EXPECT_EQ(-EBUSY, spl_forward(self->s, self->r.a, self->r.b, SPL_ALL, NULL, &token));
	EXPECT_LT(0, strlen(spl_strerror_last(self->s)));
	for (sum = 0; sum < 16 * sizeof(buf); sum += n) {
		ASSERT_LT(0, poll_fd(self->r.s, POLLIN, WAIT_MS));
		n = recv(self->r.s, buf, sizeof(buf), 0);
		ASSERT_LT(0, n);
	}
	EXPECT_EQ(0, reap(pid));
	start(5);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 5));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 5));
}

SUITE_MAIN
