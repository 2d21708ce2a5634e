// SPDX-License-Identifier: GPL-2.0
/*
 * own_loop.c: the library as a program uses it: one thread, its own loop, spl_fd() in a set of its own, and
 * nobody else who drives the context.
 */
#include "harness.h"

#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/time.h>

#define SEED 1
#define BACK 2

FIXTURE(own_loop) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	struct spl_event ev;
	int ep;			/* the program's own set, with spl_fd() in it */
};

FIXTURE_VARIANT(own_loop) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_TCP(own_loop);
KMOD_UNIX(own_loop);
KMOD_TLS(own_loop);
SOCKMAP_SOCKETS(own_loop);
VARIANT(own_loop, user_v4, .engine = SPL_ENGINE_USER, .net = NET_V4);
VARIANT(own_loop, user_v6, .engine = SPL_ENGINE_USER, .net = NET_V6);
VARIANT(own_loop, user_unix, .engine = SPL_ENGINE_USER, .net = NET_UNIX);
VARIANT(own_loop, user_tcp2unix, .engine = SPL_ENGINE_USER, .net = NET_TCP_TO_UNIX);
USER_TLS(own_loop);
VARIANT(own_loop, user_v4_lossless, .engine = SPL_ENGINE_USER, .net = NET_V4,
	.require = SPL_CAP_LOSSLESS);

FIXTURE_SETUP(own_loop)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = variant->engine,
				      .require = variant->require, .cgroup = cgroup_path() };
	struct epoll_event want = { .events = EPOLLIN };

	ASSERT_EQ(0, spl_open(&self->s, &opts));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	self->ep = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_EQ(0, epoll_ctl(self->ep, EPOLL_CTL_ADD, spl_fd(self->s), &want));
}

FIXTURE_TEARDOWN(own_loop)
{
	close(self->ep);
	spl_close(self->s);
	relay_close(&self->r);
}

/* One turn of the program: 1 and an event, or 0. */
static int turn(int ep, struct spl *s, struct spl_event *ev, int ms)
{
	struct epoll_event got;
	int n = epoll_wait(ep, &got, 1, ms);

	return n > 0 ? spl_next(s, ev, 0) : n;
}

/* Turns until an event comes, or nothing has happened for so long. */
static int turns(int ep, struct spl *s, struct spl_event *ev, int ms)
{
	struct epoll_event got;
	int n = 0;

	while (!n && epoll_wait(ep, &got, 1, ms) > 0)
		n = spl_next(s, ev, 0);
	return n;
}

#define pair()	\
	do {									\
		begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token)); \
		self->r.a = self->r.b = -1;					\
	} while (0)

/* 0: the descriptor is silent, after a look for what was nothing at most. */
static int silent(int ep, struct spl *s)
{
	struct epoll_event got;
	struct spl_event ev;
	int i;

	for (i = 0; i < 4; i++) {
		if (!epoll_wait(ep, &got, 1, 0))
			return epoll_wait(ep, &got, 1, QUIET_MS) ? -EAGAIN : 0;
		if (spl_next(s, &ev, 0))
			return -EEXIST;
	}
	return -EBUSY;
}

TEST_F_TIMEOUT(own_loop, relay, 100)
{
	struct stream st[4] = {
		{ .fd = self->r.c, .seed = SEED, .len = bulk(variant->net, scaled(5000000)), .fin = true },
		{ .fd = self->r.s, .seed = SEED, .len = SPL_ALL },
		{ .fd = self->r.s, .seed = BACK, .len = bulk(variant->net, scaled(4000000)), .fin = true, .chunk = 3000 },
		{ .fd = self->r.c, .seed = BACK, .len = SPL_ALL, .chunk = 5000 },
	};
	uint64_t until = now_ms() + 90000;
	int i, n = 0;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, i % 2 ? stream_recv(st + i) : stream_send(st + i));
	pair();
	while (!n) {
		ASSERT_GT(until, now_ms());
		n = turn(self->ep, self->s, &self->ev, 1000);
		ASSERT_LE(0, n);
	}
	EXPECT_EQ(self->token, self->ev.token);
	EXPECT_EQ(SPL_EOF, self->ev.cause);
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, stream_join(st + i));
	EXPECT_EQ(st[0].len, self->ev.bytes);
	EXPECT_EQ(st[2].len, self->ev.bytes_back);
	EXPECT_EQ(0, silent(self->ep, self->s));
}

/* A call that waits works meanwhile, for the time it was given or for ever. */
TEST_F_TIMEOUT(own_loop, waiting_calls, 60)
{
	uint64_t half = bulk(variant->net, 1000000), began;
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = 2 * half, .pause_us = 300 };
	struct stream rx = { .fd = self->r.s, .seed = SEED, .len = 2 * half };
	struct spl_event ev;

	begun(spl_forward(self->s, self->r.a, self->r.b, half, NULL, &self->token));
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_recv(&rx));
	ASSERT_EQ(1, spl_next(self->s, &ev, -1));
	EXPECT_EQ(self->token, ev.token);
	begun(spl_forward(self->s, self->r.a, self->r.b, half, NULL, &self->token));
	ASSERT_EQ(1, spl_wait(self->s, self->token, &ev, WAIT_MS));
	EXPECT_EQ(SPL_DONE, ev.cause);
	EXPECT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, stream_join(&rx));
	began = now_ms();
	EXPECT_EQ(0, spl_next(self->s, &ev, 150));
	EXPECT_LE(149, now_ms() - began);
}

/* Other operations go on while one is waited for, and their events are kept. */
TEST_F(own_loop, wait_for_one)
{
	struct spl_event ev;
	struct relay more;
	uint64_t second;

	ASSERT_EQ(0, relay_open(&more, variant->net));
	begun(spl_forward(self->s, self->r.a, self->r.b, 10, NULL, &self->token));
	begun(spl_forward(self->s, more.a, more.b, 10, NULL, &second));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, put(more.c, BACK, 0, 9));
	EXPECT_EQ(0, spl_wait(self->s, second, &ev, 50));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 10));
	ASSERT_EQ(0, put(more.c, BACK, 9, 1));
	ASSERT_EQ(1, spl_wait(self->s, second, &ev, WAIT_MS));
	EXPECT_EQ(second, ev.token);
	ASSERT_EQ(1, turns(self->ep, self->s, &ev, WAIT_MS));
	EXPECT_EQ(self->token, ev.token);
	relay_close(&more);
}

/* Readable when there is something to do, and not when there is not: idle, stalled, half over, ended. */
TEST_F_TIMEOUT(own_loop, readable_for_a_reason, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };
	uint64_t last, pos = 0, until = now_ms() + 3 * WAIT_MS;

	EXPECT_EQ(0, silent(self->ep, self->s));
	pair();
	EXPECT_EQ(0, silent(self->ep, self->s));
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 10));
	ASSERT_EQ(0, turns(self->ep, self->s, &self->ev, QUIET_MS));
	ASSERT_EQ(0, take(self->r.c, BACK, 0, 10));
	EXPECT_EQ(0, silent(self->ep, self->s));
	/* nobody reads: there is much to send and nothing to do */
	ASSERT_EQ(0, stream_send(&tx));
	do {
		last = tx.done;
		ASSERT_EQ(0, turns(self->ep, self->s, &self->ev, 300));
	} while (!last || last != tx.done);
	EXPECT_EQ(0, silent(self->ep, self->s));
	/* room: there is something to do again */
	while (last == tx.done) {
		int n = queued(self->r.s);

		ASSERT_GT(until, now_ms());
		if (n > 0)
			ASSERT_EQ(0, take(self->r.s, SEED, pos, n));
		pos += n;
		ASSERT_EQ(0, turn(self->ep, self->s, &self->ev, n ? 0 : 50));
	}
	tx.stop = true;
	ASSERT_EQ(0, stream_join(&tx));
	while (pos < tx.done) {
		int n = queued(self->r.s);

		if (n > 0)
			ASSERT_EQ(0, take(self->r.s, SEED, pos, n));
		pos += n;
		ASSERT_EQ(0, turn(self->ep, self->s, &self->ev, n ? 0 : 100));
	}
	ASSERT_EQ(0, fin(&tx.fd));	/* not before: TLS says so, for which there must be room */
	ASSERT_EQ(0, turns(self->ep, self->s, &self->ev, QUIET_MS));
	/* half over */
	EXPECT_EQ(0, silent(self->ep, self->s));
	ASSERT_EQ(0, fin(&self->r.s));
	ASSERT_EQ(1, turns(self->ep, self->s, &self->ev, WAIT_MS));
	EXPECT_EQ(SPL_EOF, self->ev.cause);
	EXPECT_EQ(0, silent(self->ep, self->s));
}

/* An event that is not read keeps it readable, whatever was asked in between. */
TEST_F(own_loop, readable_until_read)
{
	struct spl_stat st;
	struct spl_event ev;
	int i;

	begun(spl_forward(self->s, self->r.a, self->r.b, 0, NULL, &self->token));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(POLLIN, poll_fd(spl_fd(self->s), POLLIN, WAIT_MS));
		EXPECT_EQ(-ENOENT, spl_stat(self->s, self->token, &st));
		EXPECT_EQ(-ENOENT, spl_cancel(self->s, self->token));
	}
	ASSERT_EQ(1, spl_next(self->s, &ev, 0));
	EXPECT_EQ(0, silent(self->ep, self->s));
}

/* Time-outs of operations are something to do. */
TEST_F(own_loop, readable_when_idle)
{
	uint64_t began = now_ms();

	begun(spl_forward(self->s, self->r.a, self->r.b, SPL_ALL, OPTS(.idle_ms = 1500), &self->token));
	EXPECT_EQ(0, silent(self->ep, self->s));
	ASSERT_EQ(1, turns(self->ep, self->s, &self->ev, WAIT_MS));
	EXPECT_EQ(SPL_IDLE, self->ev.cause);
	EXPECT_LE(1495, now_ms() - began);
	EXPECT_GT(6000, now_ms() - began);
	EXPECT_EQ(0, silent(self->ep, self->s));
}

/* The program was busy elsewhere for longer than the limit, but the bytes were there in time. */
TEST_F_TIMEOUT(own_loop, busy_elsewhere, 60)
{
	enum { MOST = 100 };
	struct relay r[MOST];
	struct spl_event ev;
	uint64_t token;
	int i, n, count = scaled(MOST);

	/* where this takes long it must not take up the limit */
	for (i = 0; i < count; i++)
		ASSERT_EQ(0, relay_open(r + i, variant->net));
	for (i = 0; i < count; i++)
		begun(spl_forward(self->s, r[i].a, r[i].b, 5, OPTS(.idle_ms = 1000), &token));
	for (i = 0; i < 10 && turns(self->ep, self->s, &ev, 0) == 0; i++)
		;
	for (i = 0; i < count; i++)
		ASSERT_EQ(0, put(r[i].c, SEED, 0, 5));
	sleep_ms(1200);
	for (i = 0; i < count; i++) {
		n = spl_next(self->s, &ev, WAIT_MS);
		ASSERT_EQ(1, n);
		EXPECT_EQ(SPL_DONE, ev.cause);
		EXPECT_EQ(5, ev.bytes);
	}
	for (i = 0; i < count; i++)
		relay_close(r + i);
}

static uint64_t cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000ull + u.ru_utime.tv_usec +
	       u.ru_stime.tv_usec;
}

/* Who waits does not spin: with idle connections, and with one that is stuck. */
TEST_F_TIMEOUT(own_loop, costs_nothing, 60)
{
	enum { COUNT = 40 };
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };
	struct relay r[COUNT];
	struct spl_event ev;
	uint64_t before, last, token;
	int i;

	for (i = 0; i < COUNT; i++) {
		ASSERT_EQ(0, relay_open(r + i, variant->net));
		begun(spl_splice_pair(self->s, r[i].a, r[i].b, NULL, &token));
		r[i].a = r[i].b = -1;
	}
	pair();
	ASSERT_EQ(0, stream_send(&tx));
	do {
		last = tx.done;
		ASSERT_EQ(0, turns(self->ep, self->s, &ev, 300));
	} while (!last || last != tx.done);
	tx.stop = true;
	ASSERT_EQ(0, stream_join(&tx));
	before = cpu_us();
	EXPECT_EQ(0, spl_next(self->s, &ev, 500));
	EXPECT_EQ(0, turn(self->ep, self->s, &ev, 500));
	EXPECT_GT(100000, cpu_us() - before) {
		TH_LOG("%llu us of processor time in a second", (unsigned long long)(cpu_us() - before));
	}
	for (i = 0; i < COUNT; i++)
		relay_close(r + i);
}

/* What can move at once moves within the call. */
NEEDS(own_loop, first_attempt, NEEDS_USER);
TEST_F(own_loop, first_attempt)
{
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, wait_queued(self->r.a, 1000));
	begun(spl_forward(self->s, self->r.a, self->r.b, 1000, NULL, &self->token));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
	EXPECT_EQ(POLLIN, poll_fd(spl_fd(self->s), POLLIN, 0));
	ASSERT_EQ(1, spl_next(self->s, &self->ev, 0));
	EXPECT_EQ(SPL_DONE, self->ev.cause);
	EXPECT_EQ(1000, self->ev.bytes);
}

static void on_alarm(int sig)
{
}

/* A signal does not end a wait. */
TEST_F(own_loop, signals)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	struct spl_event ev;
	uint64_t began = now_ms();
	struct itimerval often = { { 0, 10000 }, { 0, 10000 } }, never = { 0 };

	ASSERT_EQ(0, sigaction(SIGALRM, &sa, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &often, NULL));
	EXPECT_EQ(0, spl_next(self->s, &ev, 200));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &never, NULL));
	EXPECT_LE(199, now_ms() - began);
}

/* A child that closes its copy of the context leaves the parent's connections alone. */
NEEDS(own_loop, forked, NEEDS_USER);
TEST_F(own_loop, forked)
{
	struct spl_event ev;
	pid_t pid;

	pair();
	ASSERT_EQ(0, turns(self->ep, self->s, &ev, 10));
	pid = fork();
	if (!pid) {
		spl_close(self->s);
		_exit(0);
	}
	ASSERT_EQ(0, reap(pid));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, turns(self->ep, self->s, &ev, QUIET_MS));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 10));
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 10));
	ASSERT_EQ(0, turns(self->ep, self->s, &ev, QUIET_MS));
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 10));
}

SUITE_MAIN
