// SPDX-License-Identifier: GPL-2.0
/*
 * sockmap.c: what could go wrong in local mode, where bytes reach the peer on two ways: order, an end that overtakes, readers that
 * look at one way only, and sockets that are left with bytes on the way.
 */
#include "hopped.h"

#include <sys/epoll.h>

/*
 * The relay has sent so many bytes, either way. Who reads before has the lock of his socket now and then, or sleeps there, where
 * the kernel may have to leave it to TCP.
 */
static int wait_sent(const uint64_t *before, uint64_t n)
{
	uint64_t until = now_ms() + WAIT_MS;

	while (counted(before, LOCAL_BYTES) + counted(before, LOCAL_PASSED_BYTES) < n) {
		if (now_ms() > until)
			return -ETIMEDOUT;
		sleep_ms(1);
	}
	return 0;
}

TEST_F(sockmap, bytes_go_by_the_hop)
{
	uint64_t token;

	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100000));
	ASSERT_EQ(0, wait_sent(self->before, 100000));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 100000));
	ASSERT_EQ(0, put(self->r.s, SEED + 1, 0, 70000));
	ASSERT_EQ(0, wait_sent(self->before, 170000));
	ASSERT_EQ(0, take(self->r.c, SEED + 1, 0, 70000));
	EXPECT_EQ(170000, COUNTED(BYTES));
	EXPECT_EQ(0, COUNTED(PASSED_BYTES));
	EXPECT_EQ(0, COUNTED(QUOTA));
}

/* Sent by the program before, through TCP, and not read yet: it stays in front. Once all is read, bytes are redirected. */
TEST_F(sockmap, prefix_stays_in_front)
{
	uint64_t token, pos = 0;
	unsigned int i;

	for (i = 0; i < 50; i++) {
		ASSERT_EQ(0, put(self->r.b, SEED, pos, 1000));
		ASSERT_EQ(0, put(self->r.c, SEED, pos + 1000, 5000));
		forward(5000);
		ends(token, SPL_DONE, 0, 5000);
		ASSERT_EQ(0, take(self->r.s, SEED, pos, 6000));
		pos += 6000;
	}
	EXPECT_EQ(0, COUNTED(BYTES));
	ASSERT_EQ(0, put(self->r.c, SEED, pos, 5000));
	forward(5000);
	ends(token, SPL_DONE, 0, 5000);
	ASSERT_EQ(0, take(self->r.s, SEED, pos, 5000));
	EXPECT_EQ(5000, COUNTED(BYTES));
}

/* What the program sends afterwards comes afterwards; and the next operation begins where that has been read. */
TEST_F(sockmap, left_with_bytes_on_the_way)
{
	uint64_t token, state = 1, pos = 0;
	unsigned int i;
	size_t n, own;

	for (i = 0; i < 100; i++) {
		n = rnd_size(&state, 60000);
		own = rnd_size(&state, 3000);
		ASSERT_EQ(0, put(self->r.c, SEED, pos, n));
		forward(n);
		ends(token, SPL_DONE, 0, n);
		ASSERT_EQ(0, put(self->r.b, SEED, pos + n, own));
		ASSERT_EQ(0, take(self->r.s, SEED, pos, n + own));
		pos += n + own;
	}
	EXPECT_LT(0, COUNTED(BYTES));
}

TEST_F(sockmap, end_right_after_the_data)
{
	uint64_t token, n;

	for (n = 1; n < 2 * MB; n = n * 5 + 3) {
		struct stream tx = { .fd = self->r.c, .seed = SEED, .len = n, .chunk = 100000, .fin = true };

		begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &token));
		self->r.a = self->r.b = -1;
		ASSERT_EQ(0, stream_send(&tx));
		ASSERT_EQ(0, stream_join(&tx));
		ends(token, SPL_EOF, 0, n);
		ASSERT_EQ(n, take_rest(self->r.s, SEED, 0));
		relay_close(&self->r);
		ASSERT_EQ(0, relay_open(&self->r, variant->net));
	}
	EXPECT_LT(0, COUNTED(BYTES));
}

TEST_F(sockmap, half_close)
{
	uint64_t token;

	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50000));
	ASSERT_EQ(0, shutdown(self->r.c, SHUT_WR));
	ASSERT_EQ(0, wait_sent(self->before, 50000));
	ASSERT_EQ(50000, take_rest(self->r.s, SEED, 0));
	ASSERT_EQ(0, put(self->r.s, SEED, 0, 50000));
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
	ASSERT_EQ(0, wait_sent(self->before, 100000));
	ASSERT_EQ(50000, take_rest(self->r.c, SEED, 0));
	ends(token, SPL_EOF, 0, 50000);
	EXPECT_EQ(100000, COUNTED(BYTES));
}

TEST_F(sockmap, reset_behind_bytes)
{
	struct spl_event ev;
	uint64_t token;

	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50000));
	ASSERT_EQ(0, wait_queued(self->r.s, 50000));
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(SPL_SOURCE_FAILED, ev.cause);
	EXPECT_EQ(ECONNRESET, ev.error);
	EXPECT_EQ(0, at_reset(self->r.s));
}

/* The peer goes away with bytes unread: the relay's next bytes learn of it as over TCP. */
TEST_F(sockmap, peer_closes_with_bytes_unread)
{
	struct spl_event ev;
	uint64_t token;
	int i;

	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50000));
	ASSERT_EQ(0, wait_queued(self->r.s, 50000));
	close_fd(&self->r.s);
	for (i = 0; i < 50 && send(self->r.c, "x", 1, MSG_NOSIGNAL) == 1; i++)
		sleep_ms(5);
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(SPL_SINK_FAILED, ev.cause);
	EXPECT_TRUE(ev.error == ECONNRESET || ev.error == EPIPE);
}

/* ---- readers of many kinds */

struct reader { int fd, flags; size_t len; ssize_t n; volatile pid_t tid; pthread_t thread; };

static void *reader_run(void *arg)
{
	struct reader *rd = arg;
	static uint8_t buf[65536];

	rd->tid = gettid();
	rd->n = recv(rd->fd, buf, rd->len, rd->flags);
	return NULL;
}

/* It has begun to wait for more in TCP, where redirected bytes would never be seen. */
TEST_F(sockmap, reader_that_waits_for_all)
{
	struct reader rd = { .fd = self->r.s, .flags = MSG_WAITALL, .len = 3000 };
	uint64_t token;

	ASSERT_EQ(0, put(self->r.b, SEED, 0, 1000));
	ASSERT_EQ(0, wait_queued(self->r.s, 1000));
	ASSERT_EQ(0, pthread_create(&rd.thread, NULL, reader_run, &rd));
	while (!rd.tid)
		sleep_ms(1);
	ASSERT_EQ(0, wait_blocked(rd.tid));
	ASSERT_EQ(0, put(self->r.c, SEED, 1000, 2000));
	forward(2000);
	ends(token, SPL_DONE, 0, 2000);
	ASSERT_EQ(0, pthread_join(rd.thread, NULL));
	EXPECT_EQ(3000, rd.n);
	EXPECT_EQ(0, COUNTED(BYTES));
}

TEST_F(sockmap, reader_that_sleeps)
{
	struct reader rd = { .fd = self->r.s, .len = 3000 };
	uint64_t token;

	ASSERT_EQ(0, pthread_create(&rd.thread, NULL, reader_run, &rd));
	while (!rd.tid)
		sleep_ms(1);
	ASSERT_EQ(0, wait_blocked(rd.tid));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 2000));
	forward(2000);
	ends(token, SPL_DONE, 0, 2000);
	ASSERT_EQ(0, pthread_join(rd.thread, NULL));
	EXPECT_EQ(2000, rd.n);
	EXPECT_EQ(2000, COUNTED(BYTES));
}

TEST_F(sockmap, reader_that_peeks)
{
	uint8_t buf[4000];
	uint64_t token;

	ASSERT_EQ(0, put(self->r.c, SEED, 0, 3000));
	forward(3000);
	ends(token, SPL_DONE, 0, 3000);
	ASSERT_EQ(1000, recv(self->r.s, buf, 1000, MSG_PEEK));
	EXPECT_EQ(0, pattern_check(buf, 1000, SEED, 0));
	ASSERT_EQ(3000, recv(self->r.s, buf, 4000, MSG_PEEK));
	EXPECT_EQ(0, pattern_check(buf, 3000, SEED, 0));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 3000));
	EXPECT_EQ(3000, COUNTED(BYTES));
}

TEST_F(sockmap, edges_of_epoll)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int ep = epoll_create1(0), i;
	uint64_t token;

	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, self->r.s, &ev));
	for (i = 0; i < 100; i++) {
		EXPECT_EQ(0, epoll_wait(ep, &ev, 1, 0));
		ASSERT_EQ(0, put(self->r.c, SEED, i * 10, 10));
		forward(10);
		ends(token, SPL_DONE, 0, 10);
		ASSERT_EQ(1, epoll_wait(ep, &ev, 1, WAIT_MS));
		EXPECT_EQ(EPOLLIN, poll_fd(self->r.s, POLLIN, 0));
		ASSERT_EQ(0, take(self->r.s, SEED, i * 10, 10));
	}
	EXPECT_EQ(1000, COUNTED(BYTES));
	close(ep);
}

/* ---- which sockets */

static int open_outside(void *arg)
{
	return relay_open(arg, NET_V4);
}

TEST_F(sockmap, sockets_of_another_cgroup)
{
	uint64_t token;

	relay_close(&self->r);
	ASSERT_EQ(0, cgroup_outside(open_outside, &self->r));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 5000));
	forward(5000);
	ends(token, SPL_DONE, 0, 5000);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 5000));
	EXPECT_EQ(0, COUNTED(BYTES));
	EXPECT_EQ(0, COUNTED(LEARNED));
}

TEST_F(sockmap, only_with_a_cgroup)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = SPL_ENGINE_SOCKMAP };
	struct spl *s;

	opts.cgroup = "/tmp";
	EXPECT_EQ(-EINVAL, spl_open(&s, &opts));
	opts.cgroup = "/nowhere";
	EXPECT_EQ(-ENOENT, spl_open(&s, &opts));
	/* without one it is sk_skb mode; so it is for a program that was built before there was the field */
	opts.cgroup = cgroup_path();
	opts.sz = offsetof(struct spl_open_opts, cgroup);
	opts.require = SPL_CAP_LOSSLESS;
	EXPECT_EQ(-EOPNOTSUPP, spl_open(&s, &opts));
	EXPECT_NE(NULL, strstr(spl_strerror_last(NULL), "cgroup"));
}

SUITE_MAIN
