// SPDX-License-Identifier: GPL-2.0
/*
 * sockmap.c: what could go wrong in local mode, where bytes reach the peer on two ways: order, an end that overtakes, memory of a
 * peer that does not read, readers that look at one way only, and sockets that are left with bytes on the way.
 */
#include "harness.h"
#include "probe.h"
#include "../bpf/local.h"

#include <linux/sock_diag.h>
#include <sys/epoll.h>

#define SEED	7
#define MB	(1u << 20)

FIXTURE(sockmap) {
	struct spl *s;
	struct relay r;
	uint64_t before[LOCAL_COUNTS];
};

FIXTURE_VARIANT(sockmap) {
	enum spl_engine engine;
	enum net net;
};

SOCKMAP_SOCKETS(sockmap);

FIXTURE_SETUP(sockmap)
{
	ASSERT_EQ(0, engine_open(&self->s, variant->engine)) {
		TH_LOG("%s", spl_strerror_last(NULL));
	}
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	ASSERT_EQ(LOCAL_COUNTS, spl_sockmap_counts(self->before, LOCAL_COUNTS));
}

FIXTURE_TEARDOWN(sockmap)
{
	spl_close(self->s);
	relay_close(&self->r);
}

/* How often since the set-up. */
static uint64_t counted(const uint64_t *before, enum local_count what)
{
	uint64_t now[LOCAL_COUNTS] = { 0 };

	spl_sockmap_counts(now, LOCAL_COUNTS);
	return now[what] - before[what];
}

#define COUNTED(what) counted(self->before, LOCAL_##what)

#define forward(n)	begun(spl_forward(self->s, self->r.a, self->r.b, n, NULL, &token))

TEST_F(sockmap, bytes_go_by_the_hop)
{
	uint64_t token;

	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100000));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 100000));
	ASSERT_EQ(0, put(self->r.s, SEED + 1, 0, 70000));
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
	ASSERT_EQ(50000, take_rest(self->r.s, SEED, 0));
	ASSERT_EQ(0, put(self->r.s, SEED, 0, 50000));
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
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

/* ---- a peer that does not read */

static unsigned int mem_of(int fd)
{
	uint32_t m[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(m);

	getsockopt(fd, SOL_SOCKET, SO_MEMINFO, m, &len);
	return m[SK_MEMINFO_RMEM_ALLOC] + m[SK_MEMINFO_WMEM_QUEUED];
}

/* Memory of both sockets of the relay's second connection, with nobody reading; then all is read. */
TEST_F_TIMEOUT(sockmap, stalled_reader_costs_bounded_memory, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = 32 * MB, .chunk = 65536, .fin = true };
	unsigned int both;
	uint64_t token, began;

	forward(SPL_ALL);
	ASSERT_EQ(0, stream_send(&tx));
	/* for some time the relay waits for the reader, then it lets TCP have the rest */
	ASSERT_EQ(0, stream_stuck(&tx, 1500));
	both = mem_of(self->r.b) + mem_of(self->r.s);
	TH_LOG("%u KB while the reader is stalled, %llu KB of them redirected", both / 1024,
	       (unsigned long long)COUNTED(BYTES) / 1024);
	EXPECT_GE(8 * MB, both);
	EXPECT_GE(LOCAL_QUOTA_BYTES, COUNTED(BYTES));
	EXPECT_EQ(1, COUNTED(QUOTA));
	sleep_ms(2000);
	began = now_ms();
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 32 * MB));
	TH_LOG("%llu ms to read all after that", (unsigned long long)(now_ms() - began));
	EXPECT_EQ(0, stream_join(&tx));
	ends(token, SPL_EOF, 0, 32 * MB);
}

/* Each message costs the kernel about a KB, however short it is. */
TEST_F(sockmap, many_short_messages_are_bounded)
{
	unsigned int i, n = 3 * LOCAL_QUOTA_MSGS;
	uint64_t token;
	uint8_t byte;

	for (i = 0; i < n; i++) {
		pattern_fill(&byte, 1, SEED, i);
		begun(spl_send(self->s, self->r.b, &byte, 1, NULL, &token));
		ends(token, SPL_DONE, 0, 1);
	}
	EXPECT_GE(LOCAL_QUOTA_MSGS, COUNTED(MSGS));
	EXPECT_LT(0, COUNTED(QUOTA));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, n));
}

/* The peer does not read until the bytes go by TCP. */
static int wait_switched(const uint64_t *before, uint64_t quota)
{
	uint64_t until = now_ms() + WAIT_MS;

	while (counted(before, LOCAL_QUOTA) <= quota) {
		if (now_ms() > until)
			return -ETIMEDOUT;
		sleep_ms(1);
	}
	return 0;
}

/* The reader stalls for so long that TCP gets bytes, then reads all; what comes later is redirected again, behind them. */
TEST_F_TIMEOUT(sockmap, the_hop_comes_back, 60)
{
	uint64_t token, pos = 0, quota, bytes;
	unsigned int i;

	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	for (i = 0; i < 3; i++) {
		struct stream tx = { .fd = self->r.c, .seed = SEED, .pos = pos, .len = 5 * MB, .chunk = 65536 };

		quota = COUNTED(QUOTA);
		ASSERT_EQ(0, stream_send(&tx));
		ASSERT_EQ(0, wait_switched(self->before, quota));
		ASSERT_EQ(0, take(self->r.s, SEED, pos, 5 * MB));
		ASSERT_EQ(0, stream_join(&tx));
		pos += 5 * MB;
		bytes = COUNTED(BYTES);
		/* whoever slept there might do so within TCP */
		ASSERT_EQ(0, put(self->r.c, SEED, pos, 20000));
		ASSERT_EQ(0, wait_queued(self->r.s, 20000));
		ASSERT_EQ(0, take(self->r.s, SEED, pos, 20000));
		pos += 20000;
		EXPECT_EQ(bytes + 20000, COUNTED(BYTES));
	}
	EXPECT_LT(0, COUNTED(PASSED_BYTES));
}

/* A reader that is merely slow is waited for: TCP, where bytes behind redirected ones may be dropped, gets nothing. */
TEST_F_TIMEOUT(sockmap, slow_reader_is_waited_for, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = 20 * MB, .chunk = 65536 };
	uint64_t token, pos;

	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, stream_send(&tx));
	for (pos = 0; pos < tx.len; pos += MB) {
		sleep_ms(20);
		ASSERT_EQ(0, take(self->r.s, SEED, pos, MB));
	}
	ASSERT_EQ(0, stream_join(&tx));
	EXPECT_EQ(tx.len, COUNTED(BYTES));
	EXPECT_EQ(0, COUNTED(PASSED_BYTES));
}

/* From the hop to TCP, at whatever byte that happens; or now and then not at all. */
TEST_F_TIMEOUT(sockmap, order_survives_the_switch, 120)
{
	uint64_t token, state = 5;
	uint64_t quota;
	unsigned int i;

	for (i = 0; i < scaled(30); i++) {
		struct stream tx = { .fd = self->r.c, .seed = SEED, .len = 4 * MB + rnd_below(&state, 2 * MB),
				     .chunk = 1000 + rnd_size(&state, 200000), .fin = true };

		begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &token));
		self->r.a = self->r.b = -1;
		quota = COUNTED(QUOTA);
		ASSERT_EQ(0, stream_send(&tx));
		if (i % 3)
			ASSERT_EQ(0, wait_switched(self->before, quota));
		ASSERT_EQ(tx.len, take_rest(self->r.s, SEED, 0));
		ASSERT_EQ(0, stream_join(&tx));
		ends(token, SPL_EOF, 0, tx.len);
		relay_close(&self->r);
		ASSERT_EQ(0, relay_open(&self->r, variant->net));
	}
	EXPECT_LT(0, COUNTED(PASSED_BYTES));
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
