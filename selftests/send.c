// SPDX-License-Identifier: GPL-2.0
/* send.c: spl_send(): all of it is taken or nothing; and spl_writeable(), which says beforehand which. */
#include "harness.h"

#include <sys/un.h>

#define SEED 1
#define BACK 2
#define MOST 65536

FIXTURE(send) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	uint8_t buf[MOST + 1];
};

FIXTURE_VARIANT(send) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_SOCKETS(send);
USER_SOCKETS(send);
USER_PIPES(send);
USER_LOSSLESS(send);
USER_TLS(send);

FIXTURE_SETUP(send)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	pattern_fill(self->buf, sizeof(self->buf), SEED, 0);
}

FIXTURE_TEARDOWN(send)
{
	spl_close(self->s);
	relay_close(&self->r);
}

#define send_it(len, opts)	spl_send(self->s, self->r.b, self->buf, len, opts, &self->token)

TEST_F(send, one_event)
{
	struct spl_event ev;

	begun(send_it(1000, OPTS(.user_data = 5)));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(SPL_DONE, ev.cause);
	EXPECT_EQ(0, ev.error);
	EXPECT_EQ(5, ev.user_data);
	EXPECT_EQ(1000, ev.bytes);
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

/* The event comes by spl_next(), also of what was done when the call returned. */
TEST_F(send, never_from_inside)
{
	struct spl_event ev;

	begun(send_it(10, NULL));
	ASSERT_EQ(1, spl_next(self->s, &ev, WAIT_MS));
	EXPECT_EQ(self->token, ev.token);
}

TEST_F(send, nothing)
{
	begun(send_it(0, NULL));
	ends(self->token, SPL_DONE, 0, 0);
	EXPECT_EQ(0, at_quiet(self->r.s));
}

TEST_F(send, many)
{
	unsigned int i;

	for (i = 0; i < 20; i++) {
		begun(spl_send(self->s, self->r.b, self->buf + i * 100, 100, NULL, &self->token));
		ends(self->token, SPL_DONE, 0, 100);
	}
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 2000));
}

TEST_F(send, too_much)
{
	EXPECT_EQ(-EINVAL, send_it(MOST + 1, NULL));
	EXPECT_LT(0, strlen(spl_strerror_last(self->s)));
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, at_quiet(self->r.s));
}

/* A full sink takes nothing, and says so; the library buffers nothing beyond one send. */
TEST_F_TIMEOUT(send, to_a_full_sink, 60)
{
	int64_t before = stuff(self->r.b, BACK);

	ASSERT_LT(0, before);
	EXPECT_EQ(0, spl_writeable(self->s, self->r.b));
	EXPECT_EQ(-EAGAIN, send_it(1, NULL));
	EXPECT_LT(0, strlen(spl_strerror_last(self->s)));
	EXPECT_EQ(-EAGAIN, send_it(MOST, NULL));
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, take(self->r.s, BACK, 0, before));
	EXPECT_EQ(POLLOUT, poll_fd(self->r.b, POLLOUT, WAIT_MS));
	EXPECT_EQ(1, spl_writeable(self->s, self->r.b));
	begun(send_it(1000, NULL));
	ends(self->token, SPL_DONE, 0, 1000);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
}

/* Again and again until there is no room: what was accepted comes whole and in order, the rest not at all. */
TEST_F_TIMEOUT(send, until_full, 60)
{
	uint64_t sent = 0;
	struct spl_event ev;
	int ret = 0, n = 0;

	while (!ret) {
		pattern_fill(self->buf, MOST, SEED, sent);
		ret = send_it(MOST, NULL);
		/* the memory is the caller's again */
		memset(self->buf, 0, MOST);
		if (ret)
			break;
		sent += MOST;
		ASSERT_GT(64 << 20, sent);
		n = spl_wait(self->s, self->token, &ev, 500);	/* none: it waits for room */
		ASSERT_LE(0, n);
		if (!n)
			break;
		EXPECT_EQ(SPL_DONE, ev.cause);
	}
	if (ret) {
		EXPECT_EQ(-EAGAIN, ret);
	} else {
		/* one is on its way: the end is busy */
		EXPECT_EQ(-EBUSY, send_it(1, NULL));
		EXPECT_EQ(-EBUSY, spl_writeable(self->s, self->r.b));
	}
	EXPECT_EQ(0, take(self->r.s, SEED, 0, sent));
	EXPECT_EQ(0, at_quiet(self->r.s));
	if (!ret)
		ends(self->token, SPL_DONE, 0, MOST);
	EXPECT_EQ(1, spl_writeable(self->s, self->r.b));
}

/* Bytes are on their way when it is cancelled: how many is told, and no more follow. */
TEST_F_TIMEOUT(send, cancelled, 60)
{
	int64_t before = stuff(self->r.b, BACK);
	struct spl_event ev;
	uint64_t rest = before;

	ASSERT_LT(0, before);
	/* room for some of it */
	do {
		ASSERT_EQ(0, take(self->r.s, BACK, before - rest, 512));
		rest -= 512;
	} while (!spl_writeable(self->s, self->r.b) && rest >= 512);
	begun(send_it(MOST, NULL));
	if (spl_cancel(self->s, self->token) == -ENOENT) {
		ends(self->token, SPL_DONE, 0, MOST);
		EXPECT_EQ(0, take(self->r.s, BACK, before - rest, rest));
		EXPECT_EQ(0, take(self->r.s, SEED, 0, MOST));
		return;
	}
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(SPL_CANCELED, ev.cause);
	EXPECT_GE(MOST, ev.bytes);
	EXPECT_EQ(0, take(self->r.s, BACK, before - rest, rest));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, ev.bytes));
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

/* Not while a forward has the sink, and after it at once. */
TEST_F(send, to_a_busy_end)
{
	uint64_t flow;

	begun(spl_forward(self->s, self->r.a, self->r.b, 10, NULL, &flow));
	EXPECT_EQ(-EBUSY, send_it(1, NULL));
	EXPECT_LT(0, strlen(spl_strerror_last(self->s)));
	EXPECT_EQ(-EBUSY, spl_writeable(self->s, self->r.b));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ends(flow, SPL_DONE, 0, 10);
	EXPECT_EQ(1, spl_writeable(self->s, self->r.b));
	begun(send_it(1, NULL));
	ends(self->token, SPL_DONE, 0, 1);
}

/* Busy comes before full: room would be of no use. */
TEST_F(send, to_a_busy_full_end)
{
	uint64_t flow;

	ASSERT_LT(0, stuff(self->r.b, BACK));
	begun(spl_forward(self->s, self->r.a, self->r.b, 10, NULL, &flow));
	EXPECT_EQ(-EBUSY, send_it(1, NULL));
	EXPECT_EQ(-EBUSY, spl_writeable(self->s, self->r.b));
	ASSERT_EQ(0, spl_cancel(self->s, flow));
	ends(flow, SPL_CANCELED, 0, 0);
	EXPECT_EQ(-EAGAIN, send_it(1, NULL));
	EXPECT_EQ(0, spl_writeable(self->s, self->r.b));
}

/* The source half of the same socket is nobody's business. */
NEEDS(send, beside_a_forward, NEEDS_TWO_WAY);
TEST_F(send, beside_a_forward)
{
	uint64_t flow;

	begun(spl_forward(self->s, self->r.b, self->r.a, 10, NULL, &flow));
	EXPECT_EQ(1, spl_writeable(self->s, self->r.b));
	begun(send_it(100, NULL));
	ends(self->token, SPL_DONE, 0, 100);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 100));
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 10));
	ends(flow, SPL_DONE, 0, 10);
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 10));
}

/* Nobody reads any more: that is told, and no signal comes. */
TEST_F(send, to_nobody)
{
	struct spl_event ev = { .cause = SPL_DONE };
	int ret = 0, i;

	close_fd(&self->r.s);
	for (i = 0; i < 100 && !ret && ev.cause == SPL_DONE; i++) {
		ret = send_it(1000, NULL);
		if (!ret)
			ASSERT_EQ(0, event_of(self->s, self->token, &ev));
		usleep(1000);
	}
	if (ret) {
		EXPECT_TRUE(ret == -EPIPE || ret == -ECONNRESET || ret == -ENOTCONN) {
			TH_LOG("%s", strerror(-ret));
		}
		EXPECT_EQ(ret, spl_writeable(self->s, self->r.b));
	} else {
		EXPECT_EQ(SPL_SINK_FAILED, ev.cause);
		EXPECT_TRUE(ev.error == EPIPE || ev.error == ECONNRESET);
	}
}

/* As spl_send() would refuse it: the same errno. */
#define never(fd, err)									\
	do {										\
		EXPECT_EQ(-(err), spl_writeable(self->s, fd));				\
		EXPECT_LT(0, strlen(spl_strerror_last(self->s)));			\
		EXPECT_EQ(-(err), spl_send(self->s, fd, self->buf, 1, NULL, &self->token)); \
		EXPECT_LT(0, strlen(spl_strerror_last(self->s)));			\
	} while (0)

TEST_F(send, what_is_no_sink)
{
	int file = open("/proc/self/exe", O_RDONLY), closed = fcntl(file, F_DUPFD, 500), dgram[2], ends[2];
	int tcp = socket(AF_INET, SOCK_STREAM, 0), local = socket(AF_UNIX, SOCK_STREAM, 0);

	close(closed);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram));
	ASSERT_EQ(0, pipe(ends));
	never(-1, EBADF);
	never(closed, EBADF);
	never(file, ENOTSOCK);
	never(ends[0], ENOTSOCK);
	never(dgram[0], EPROTONOSUPPORT);
	never(tcp, ENOTCONN);
	never(local, ENOTCONN);
	ASSERT_EQ(0, listen(tcp, 1));
	never(tcp, EOPNOTSUPP);
	EXPECT_EQ(0, no_event(self->s));
	close(file);
	close(tcp);
	close(local);
}

NEEDS(send, shut_down, NEEDS_TWO_WAY);
TEST_F(send, shut_down)
{
	int ret;

	ASSERT_EQ(0, shutdown(self->r.b, SHUT_WR));
	ret = spl_writeable(self->s, self->r.b);
	EXPECT_TRUE(ret == -ENOTCONN || ret == -EPIPE) {
		TH_LOG("%d", ret);
	}
	EXPECT_EQ(ret, send_it(1, NULL));
}

NEEDS(send, connecting, NEEDS_TCP);
TEST_F(send, connecting)
{
	int listening, fd = tcp_connecting(variant->net == NET_V6 ? AF_INET6 : AF_INET, &listening);

	ASSERT_LE(0, fd);
	never(fd, EINPROGRESS);
	close(fd);
	close(listening);
}

TEST_F(send, bad_options)
{
	EXPECT_EQ(-EINVAL, send_it(1, OPTS(.flags = SPL_F_KEEP)));
	EXPECT_EQ(-EINVAL, send_it(1, OPTS(.flags = SPL_F_SHUTDOWN)));
	EXPECT_EQ(-EINVAL, send_it(1, OPTS(.max = 1)));
	EXPECT_EQ(-EINVAL, send_it(1, OPTS(.delim = "x", .delim_len = 1)));
	EXPECT_EQ(-EINVAL, spl_send(self->s, self->r.b, NULL, 1, NULL, &self->token));
	EXPECT_EQ(-EINVAL, spl_send(self->s, self->r.b, self->buf, 1, NULL, NULL));
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, at_quiet(self->r.s));
}

SUITE_MAIN
