// SPDX-License-Identifier: GPL-2.0
/* sockmap_stalled.c: local mode where peers do not read: memory, who gets the rest, and that all is there when they do. */
#include "hopped.h"

#include <linux/sock_diag.h>

static unsigned int mem_of(int fd)
{
	uint32_t m[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(m);

	getsockopt(fd, SOL_SOCKET, SO_MEMINFO, m, &len);
	return m[SK_MEMINFO_RMEM_ALLOC] + m[SK_MEMINFO_WMEM_QUEUED];
}

/* Memory of both sockets of the relay's second connection, with nobody reading; then all is read, at once as TCP had to drop nothing. */
TEST_F_TIMEOUT(sockmap, stalled_reader_costs_bounded_memory, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = 32 * MB, .chunk = 65536, .fin = true };
	unsigned int both;
	uint64_t token, began;

	forward(SPL_ALL);
	ASSERT_EQ(0, stream_send(&tx));
	/* the relay waits for the reader: TCP, whose buffer there is over full, gets nothing */
	ASSERT_EQ(0, stream_stuck(&tx, 1500));
	both = mem_of(self->r.b) + mem_of(self->r.s);
	TH_LOG("%u KB while the reader is stalled, %llu KB of them redirected", both / 1024,
	       (unsigned long long)COUNTED(BYTES) / 1024);
	EXPECT_GE(8 * MB, both);
	EXPECT_GE(LOCAL_QUOTA_BYTES, COUNTED(BYTES));
	sleep_ms(500);
	began = now_ms();
	ASSERT_EQ(0, take(self->r.s, SEED, 0, LOCAL_QUOTA_BYTES + MB));
	TH_LOG("%llu ms until it has all that waited and more", (unsigned long long)(now_ms() - began));
	EXPECT_EQ(0, COUNTED(PASSED_BYTES));
	ASSERT_EQ(0, take(self->r.s, SEED, LOCAL_QUOTA_BYTES + MB, 29 * MB));
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

/* Its buffer has room for what TCP brings behind the redirected bytes: a peer that does not read gets the rest by TCP. */
static int room_for_tcp(int fd)
{
	return set_opt(fd, SOL_SOCKET, SO_RCVBUFFORCE, 4 * LOCAL_QUOTA_BYTES);
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

	ASSERT_EQ(0, room_for_tcp(self->r.s));
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

/* Without that room it takes longer, but not for ever: only TCP can give a peer up. */
TEST_F_TIMEOUT(sockmap, tcp_gets_the_rest_at_last, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = 5 * MB, .chunk = 65536, .fin = true };
	uint64_t token, began = now_ms();

	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, wait_switched(self->before, 0));
	EXPECT_LE(4000, now_ms() - began);
	ASSERT_EQ(tx.len, take_rest(self->r.s, SEED, 0));
	ASSERT_EQ(0, stream_join(&tx));
	ends(token, SPL_EOF, 0, tx.len);
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

		ASSERT_EQ(0, room_for_tcp(self->r.s));
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

/* ---- many at once */

#define MANY 30

/* So little may wait for it that it is soon the relay that does. */
static int small_buffer(int fd)
{
	return set_opt(fd, SOL_SOCKET, SO_RCVBUF, LOCAL_LEAST);
}

/* Some of those that wait go away, the others have read in the end, in whatever order. */
TEST_F_TIMEOUT(sockmap, many_wait_at_once, 60)
{
	struct relay r[MANY];
	uint64_t token;
	int i;

	for (i = 0; i < MANY; i++) {
		ASSERT_EQ(0, relay_open(&r[i], variant->net));
		ASSERT_EQ(0, small_buffer(r[i].s));
		begun(spl_splice(self->s, r[i].a, r[i].b, NULL, &token));
		r[i].a = r[i].b = -1;
		ASSERT_EQ(0, put(r[i].c, SEED + i, 0, 2 * LOCAL_LEAST));
	}
	for (i = 0; i < MANY; i += 3)
		ASSERT_EQ(0, tcp_reset(&r[i].s));
	for (i = MANY - 1; i > 0; i -= 2)
		if (i % 3)
			ASSERT_EQ(0, take(r[i].s, SEED + i, 0, 2 * LOCAL_LEAST));
	for (i = 0; i < MANY; i += 2)
		if (i % 3)
			ASSERT_EQ(0, take(r[i].s, SEED + i, 0, 2 * LOCAL_LEAST));
	EXPECT_LT(0, COUNTED(BYTES));
	for (i = 0; i < MANY; i++)
		relay_close(&r[i]);
}

SUITE_MAIN
