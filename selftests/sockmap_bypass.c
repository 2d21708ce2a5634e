// SPDX-License-Identifier: GPL-2.0
/*
 * sockmap_bypass.c: bytes that go from peer to peer, past the relay, and those that go through it: together each byte once and in
 * order, however the peers read, and which sockets they go between.
 */
#include "bypassed.h"

#include <linux/sock_diag.h>

/* ---- bytes */

TEST_F(sockmap_bypass, all_goes_past)
{
	struct spl_stat st;
	uint64_t token;

	relayed(NULL);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100000));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 100000));
	ASSERT_EQ(0, put(self->r.s, SEED + 1, 0, 70000));
	ASSERT_EQ(0, take(self->r.c, SEED + 1, 0, 70000));
	EXPECT_EQ(170000, COUNTED(BYPASS_BYTES));
	EXPECT_EQ(0, COUNTED(BYTES) + COUNTED(PASSED_BYTES));
	ASSERT_EQ(0, spl_stat(self->s, token, &st));
	EXPECT_EQ(100000, st.bytes);
	EXPECT_EQ(70000, st.bytes_back);
	EXPECT_GT(QUIET_MS, st.idle_ms);
	ASSERT_EQ(0, spl_cancel(self->s, token));
	ended_both(SPL_CANCELED, 0, 100000, 70000);
}

/* What was sent before the relay began goes through it, and stays in front. */
TEST_F_TIMEOUT(sockmap_bypass, begins_behind_what_is_on_its_way, 120)
{
	uint64_t token, state = 3;
	unsigned int i;

	for (i = 0; i < scaled(60); i++) {
		size_t first = rnd_size(&state, 300000), then = rnd_size(&state, 100000), n;
		struct stream tx = { .fd = self->r.c, .seed = SEED, .len = first + then, .chunk = rnd_size(&state, 40000), .fin = true };

		for (n = 0; n < first % 5000; n += 500)
			ASSERT_EQ(0, put(self->r.c, SEED, n, 500));
		tx.pos = n;
		ASSERT_EQ(0, stream_send(&tx));
		usleep(rnd_below(&state, 300));
		relayed(NULL);
		ASSERT_EQ(n + tx.len, take_rest(self->r.s, SEED, 0));
		ASSERT_EQ(0, stream_join(&tx));
		ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
		ends(token, SPL_EOF, 0, n + tx.len);
		reopened();
	}
	EXPECT_LT(0, COUNTED(BYPASS_BYTES));
	EXPECT_LT(0, COUNTED(BYTES) + COUNTED(PASSED_BYTES));
}

/* Both ways at once, with pauses in which a way may begin again: from peer to relay and back to the bypass at any byte. */
TEST_F_TIMEOUT(sockmap_bypass, order_both_ways, 240)
{
	uint64_t token, state = 5, moved = 0;
	unsigned int i;

	for (i = 0; i < scaled(20); i++) {
		unsigned int pause = rnd_below(&state, 600);
		struct stream there = { .fd = self->r.c, .seed = SEED, .len = MB / 4 + rnd_below(&state, 3 * MB), .fin = true,
					.chunk = 2000 + rnd_size(&state, 200000), .pause_us = pause };
		struct stream back = { .fd = self->r.s, .seed = SEED + 1, .len = MB / 4 + rnd_below(&state, 3 * MB), .fin = true,
				       .chunk = 2000 + rnd_size(&state, 200000), .pause_us = pause };
		struct stream at_s = { .fd = self->r.s, .seed = SEED, .len = there.len, .chunk = 500 + rnd_size(&state, 100000) };
		struct stream at_c = { .fd = self->r.c, .seed = SEED + 1, .len = back.len, .chunk = 500 + rnd_size(&state, 100000) };

		ASSERT_EQ(0, stream_send(&there));
		ASSERT_EQ(0, stream_send(&back));
		relayed(NULL);
		ASSERT_EQ(0, stream_recv(&at_s));
		ASSERT_EQ(0, stream_recv(&at_c));
		ASSERT_EQ(0, stream_join(&there));
		ASSERT_EQ(0, stream_join(&back));
		ASSERT_EQ(0, stream_join(&at_s));
		ASSERT_EQ(0, stream_join(&at_c));
		ended_both(SPL_EOF, 0, there.len, back.len);
		moved += there.len + back.len;
		reopened();
	}
	TH_LOG("%llu KB, %llu KB of them past the relay, %llu times to the relay for the quota", (unsigned long long)moved / 1024,
	       (unsigned long long)COUNTED(BYPASS_BYTES) / 1024, (unsigned long long)COUNTED(BYPASS_QUOTA));
	EXPECT_LT(moved / 20, COUNTED(BYPASS_BYTES));
	EXPECT_LT(COUNTED(BYPASS_BYTES), moved);
}

/* Through the relay, and past it again once that is read: each time the reader stops and goes on. */
TEST_F_TIMEOUT(sockmap_bypass, begins_again_after_a_stall, 120)
{
	uint64_t token, pos = 0, n, before;
	unsigned int i;

	relayed(NULL);
	for (i = 0; i < 20; i++) {
		before = COUNTED(BYPASS_BYTES);
		for (n = 0; n < 3 * MB; n += 20000)
			ASSERT_EQ(0, put(self->r.c, SEED, pos + n, 20000));
		EXPECT_GE(LOCAL_QUOTA_BYTES, COUNTED(BYPASS_BYTES) - before);
		EXPECT_LT(MB, COUNTED(BYPASS_BYTES) - before);
		ASSERT_EQ(0, take(self->r.s, SEED, pos, n));
		pos += n;
		/* the relay may not have heard of the last bytes' way yet */
		sleep_ms(2);
	}
	EXPECT_LE(20, COUNTED(BYPASS_QUOTA));
	ASSERT_EQ(0, shutdown(self->r.c, SHUT_WR));
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
	ASSERT_EQ(0, at_eof(self->r.s));
	ends(token, SPL_EOF, 0, pos);
}

/* Sent by the program before, through TCP, and not read yet. */
TEST_F(sockmap_bypass, stays_behind_what_tcp_has)
{
	uint64_t token;

	ASSERT_EQ(0, put(self->r.b, SEED, 0, 1000));
	ASSERT_EQ(0, put(self->r.a, SEED + 1, 0, 1000));
	relayed(NULL);
	ASSERT_EQ(0, put(self->r.c, SEED, 1000, 5000));
	ASSERT_EQ(0, put(self->r.s, SEED + 1, 1000, 5000));
	EXPECT_EQ(0, COUNTED(BYPASS_BYTES));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 6000));
	ASSERT_EQ(0, take(self->r.c, SEED + 1, 0, 6000));
}

TEST_F(sockmap_bypass, prefix_goes_first)
{
	static uint8_t prefix[60000];
	uint64_t token;

	pattern_fill(prefix, sizeof(prefix), SEED, 0);
	relayed(OPTS(.prefix = prefix, .prefix_len = sizeof(prefix)));
	ASSERT_EQ(0, put(self->r.c, SEED, sizeof(prefix), 50000));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, sizeof(prefix) + 50000));
	ASSERT_EQ(0, put(self->r.c, SEED, sizeof(prefix) + 50000, 1000));
	ASSERT_EQ(0, take(self->r.s, SEED, sizeof(prefix) + 50000, 1000));
	EXPECT_LE(1000, COUNTED(BYPASS_BYTES));
	ASSERT_EQ(0, spl_cancel(self->s, token));
	ended_both(SPL_CANCELED, 0, 51000, 0);
}

/* ---- readers */

struct reader { int fd, flags; size_t len; ssize_t n; volatile pid_t tid; pthread_t thread; };

static void *reader_run(void *arg)
{
	struct reader *rd = arg;
	uint8_t buf[65536];

	rd->tid = gettid();
	rd->n = recv(rd->fd, buf, rd->len, rd->flags);
	return NULL;
}

static int reader_start(struct reader *rd)
{
	if (pthread_create(&rd->thread, NULL, reader_run, rd))
		return -EAGAIN;
	while (!rd->tid)
		sleep_ms(1);
	return wait_blocked(rd->tid);
}

TEST_F(sockmap_bypass, readers_that_sleep)
{
	struct reader at_s = { .fd = self->r.s, .len = 3000 }, at_c = { .fd = self->r.c, .len = 3000 };
	uint64_t token;

	relayed(NULL);
	ASSERT_EQ(0, reader_start(&at_s));
	ASSERT_EQ(0, reader_start(&at_c));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 2000));
	ASSERT_EQ(0, put(self->r.s, SEED, 0, 2500));
	ASSERT_EQ(0, pthread_join(at_s.thread, NULL));
	ASSERT_EQ(0, pthread_join(at_c.thread, NULL));
	EXPECT_EQ(2000, at_s.n);
	EXPECT_EQ(2500, at_c.n);
	EXPECT_EQ(4500, COUNTED(BYPASS_BYTES));
}

/* It has begun to wait for more in TCP, where redirected bytes would never be seen. */
TEST_F(sockmap_bypass, reader_that_waits_for_all)
{
	struct reader rd = { .fd = self->r.s, .flags = MSG_WAITALL, .len = 3000 };
	uint64_t token, pos;

	ASSERT_EQ(0, put(self->r.b, SEED, 0, 1000));
	relayed(NULL);
	ASSERT_EQ(0, wait_queued(self->r.s, 1000));
	ASSERT_EQ(0, reader_start(&rd));
	ASSERT_EQ(0, put(self->r.c, SEED, 1000, 2000));
	ASSERT_EQ(0, pthread_join(rd.thread, NULL));
	EXPECT_EQ(3000, rd.n);
	EXPECT_EQ(0, COUNTED(BYPASS_BYTES));
	/* and now that nobody waits there, as soon as the relay has let go of the bytes */
	for (pos = 3000; !COUNTED(BYPASS_BYTES) && pos < 3000 + WAIT_MS; pos++) {
		sleep_ms(1);
		ASSERT_EQ(0, put(self->r.c, SEED, pos, 1));
		ASSERT_EQ(0, take(self->r.s, SEED, pos, 1));
	}
	EXPECT_EQ(1, COUNTED(BYPASS_BYTES));
}

/* ---- a peer that does not read */

static unsigned int mem_of(int fd)
{
	uint32_t m[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(m);

	getsockopt(fd, SOL_SOCKET, SO_MEMINFO, m, &len);
	return m[SK_MEMINFO_RMEM_ALLOC] + m[SK_MEMINFO_WMEM_QUEUED];
}

TEST_F_TIMEOUT(sockmap_bypass, stalled_reader_costs_bounded_memory, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = 32 * MB, .chunk = 65536, .fin = true };
	unsigned int at_s;
	uint64_t token;

	relayed(NULL);
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_stuck(&tx, 1000));
	at_s = mem_of(self->r.s);
	TH_LOG("%u KB wait for the reader, %llu KB of them past the relay", at_s / 1024,
	       (unsigned long long)COUNTED(BYPASS_BYTES) / 1024);
	EXPECT_GE(8 * MB, at_s);
	EXPECT_GE(LOCAL_QUOTA_BYTES, COUNTED(BYPASS_BYTES));
	ASSERT_EQ(32 * MB, take_rest(self->r.s, SEED, 0));
	EXPECT_EQ(0, stream_join(&tx));
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
	ends(token, SPL_EOF, 0, 32 * MB);
}

TEST_F(sockmap_bypass, many_short_messages_are_bounded)
{
	unsigned int i, n = 3 * LOCAL_QUOTA_MSGS;
	uint64_t token;

	relayed(NULL);
	for (i = 0; i < n; i++)
		ASSERT_EQ(0, put(self->r.c, SEED, i, 1));
	EXPECT_GE(LOCAL_QUOTA_MSGS, COUNTED(BYPASS_MSGS) + COUNTED(MSGS));
	EXPECT_LT(0, COUNTED(BYPASS_MSGS));
	EXPECT_LT(0, COUNTED(BYPASS_QUOTA));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, n));
}

/* One bound for a peer, not for each operation that sends to it nor for each way that bytes take. */
TEST_F_TIMEOUT(sockmap_bypass, one_bound_for_a_peer, 60)
{
	uint64_t token, pos = 0;
	unsigned int i, n;

	for (i = 0; i < 4; i++) {
		begun(spl_splice_pair(self->s, self->r.a, self->r.b, OPTS(.flags = SPL_F_KEEP), &token));
		for (n = 0; n < LOCAL_QUOTA_MSGS / 2; n++)
			ASSERT_EQ(0, put(self->r.c, SEED, pos++, 1));
		sleep_ms(QUIET_MS);
		ASSERT_EQ(0, spl_cancel(self->s, token));
		ended_both(SPL_CANCELED, 0, n, 0);
		EXPECT_GE(LOCAL_QUOTA_MSGS, COUNTED(BYPASS_MSGS) + COUNTED(MSGS));
	}
	EXPECT_LT(LOCAL_QUOTA_MSGS / 2, COUNTED(BYPASS_MSGS));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, pos));
	/* all is read: as if nothing had been */
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, OPTS(.flags = SPL_F_KEEP), &token));
	n = COUNTED(BYPASS_MSGS);
	ASSERT_EQ(0, put(self->r.c, SEED, pos, 1));
	EXPECT_EQ(n + 1, COUNTED(BYPASS_MSGS));
	ASSERT_EQ(0, take(self->r.s, SEED, pos, 1));
}

/* ---- which sockets */

static int open_outside(void *arg)
{
	return relay_open(arg, NET_V4);
}

/* Learned on one side only: bytes go through the relay. */
TEST_F(sockmap_bypass, peer_that_is_not_learned)
{
	struct relay other;
	uint64_t token;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		struct relay *in = &self->r, *out = &other, r;

		ASSERT_EQ(0, cgroup_outside(open_outside, &other));
		r = i ? (struct relay){ in->c, in->a, out->b, out->s } : (struct relay){ out->c, out->a, in->b, in->s };
		begun(spl_splice_pair(self->s, r.a, r.b, NULL, &token));
		ASSERT_EQ(0, put(r.c, SEED, 0, 5000));
		EXPECT_EQ(0, take(r.s, SEED, 0, 5000));
		ASSERT_EQ(0, put(r.s, SEED, 0, 6000));
		EXPECT_EQ(0, take(r.c, SEED, 0, 6000));
		ASSERT_EQ(0, spl_cancel(self->s, token));
		ended_both(SPL_CANCELED, 0, 5000, 6000);
		if (i)
			self->r.a = other.b = -1;
		else
			self->r.b = other.a = -1;
		relay_close(&other);
		reopened();
	}
	EXPECT_EQ(0, COUNTED(BYPASS_BYTES));
}

TEST_F(sockmap_bypass, exact_number_goes_through_the_relay)
{
	uint64_t token;

	relayed(OPTS(.max = 5000));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 5000));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 5000));
	ended_both(SPL_DONE, 0, 5000, 0);
	EXPECT_EQ(0, COUNTED(BYPASS_BYTES));
}

TEST_F(sockmap_bypass, unknown_flag)
{
	struct spl_open_opts opts = {
		.sz = sizeof(opts), .engine = SPL_ENGINE_SOCKMAP, .cgroup = cgroup_path(), .flags = SPL_OPEN_BYPASS << 1,
	};
	struct spl *s;

	EXPECT_EQ(-EINVAL, spl_open(&s, &opts));
}

TEST_F(sockmap_bypass, two_pairs_at_once)
{
	uint64_t token, other_token, pos;
	struct relay other;
	struct spl_event ev;

	ASSERT_EQ(0, relay_open(&other, variant->net));
	relayed(NULL);
	begun(spl_splice_pair(self->s, other.a, other.b, NULL, &other_token));
	for (pos = 0; pos < 100000; pos += 1000) {
		ASSERT_EQ(0, put(self->r.c, SEED, pos, 1000));
		ASSERT_EQ(0, put(other.c, SEED + 1, pos, 1000));
		ASSERT_EQ(0, take(other.s, SEED + 1, pos, 1000));
		ASSERT_EQ(0, take(self->r.s, SEED, pos, 1000));
	}
	EXPECT_EQ(200000, COUNTED(BYPASS_BYTES));
	ASSERT_EQ(0, spl_cancel(self->s, token));
	ended_both(SPL_CANCELED, 0, 100000, 0);
	ASSERT_EQ(0, put(other.c, SEED + 1, pos, 1000));
	ASSERT_EQ(0, take(other.s, SEED + 1, pos, 1000));
	ASSERT_EQ(0, spl_cancel(self->s, other_token));
	ASSERT_EQ(0, event_of(self->s, other_token, &ev));
	EXPECT_EQ(101000, ev.bytes);
	other.a = other.b = -1;
	relay_close(&other);
}

/* One relay's end is another one's peer: c - a=b - link - a=b - s. Only one of the two is bypassed, or bytes would overtake. */
TEST_F_TIMEOUT(sockmap_bypass, relays_in_a_row, 120)
{
	uint64_t token, next_token, state = 2;
	unsigned int i;
	int link[2];

	for (i = 0; i < scaled(20); i++) {
		struct stream tx = { .fd = self->r.c, .seed = SEED, .len = 3 * MB, .chunk = 1 + rnd_size(&state, 90000),
				     .pause_us = 200, .fin = true };
		struct spl_event ev;

		ASSERT_EQ(0, tcp_pair(variant->net, true, link));
		if (i % 2)
			begun(spl_splice_pair(self->s, self->r.a, link[0], NULL, &token));
		begun(spl_splice_pair(self->s, link[1], self->r.b, NULL, &next_token));
		if (i % 2 == 0)
			begun(spl_splice_pair(self->s, self->r.a, link[0], NULL, &token));
		self->r.a = self->r.b = -1;
		if (tx.chunk < 5000)
			tx.chunk = 5000;
		ASSERT_EQ(0, stream_send(&tx));
		ASSERT_EQ(tx.len, take_rest(self->r.s, SEED, 0));
		ASSERT_EQ(0, stream_join(&tx));
		ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
		ends(token, SPL_EOF, 0, tx.len);
		ASSERT_EQ(0, event_of(self->s, next_token, &ev));
		EXPECT_EQ(tx.len, ev.bytes);
		reopened();
	}
	EXPECT_LT(0, COUNTED(BYPASS_BYTES));
}

SUITE_MAIN
