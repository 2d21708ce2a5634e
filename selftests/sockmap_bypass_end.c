// SPDX-License-Identifier: GPL-2.0
/* sockmap_bypass_end.c: the relay sees ends, failures and silence, and counts, as if all bytes had gone through it. */
#include "bypassed.h"

/* ---- ends */

TEST_F(sockmap_bypass, half_close)
{
	uint64_t token;

	relayed(NULL);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50000));
	ASSERT_EQ(0, shutdown(self->r.c, SHUT_WR));
	ASSERT_EQ(50000, take_rest(self->r.s, SEED, 0));
	ASSERT_EQ(0, put(self->r.s, SEED + 1, 0, 60000));
	ASSERT_EQ(0, take(self->r.c, SEED + 1, 0, 60000));
	ASSERT_EQ(0, put(self->r.s, SEED + 1, 60000, 5000));
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
	ASSERT_EQ(5000, take_rest(self->r.c, SEED + 1, 60000));
	ended_both(SPL_EOF, 0, 50000, 65000);
	EXPECT_EQ(115000, COUNTED(BYPASS_BYTES));
}

TEST_F(sockmap_bypass, half_close_of_the_server)
{
	uint64_t token;

	relayed(NULL);
	ASSERT_EQ(0, put(self->r.s, SEED, 0, 50000));
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
	ASSERT_EQ(50000, take_rest(self->r.c, SEED, 0));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 70000));
	ASSERT_EQ(0, shutdown(self->r.c, SHUT_WR));
	ASSERT_EQ(70000, take_rest(self->r.s, SEED, 0));
	ended_both(SPL_EOF, 0, 70000, 50000);
	EXPECT_EQ(120000, COUNTED(BYPASS_BYTES));
}

TEST_F_TIMEOUT(sockmap_bypass, closed_right_after_the_data, 60)
{
	uint64_t token, n;

	for (n = 1; n < MB; n = n * 5 + 3) {
		relayed(NULL);
		ASSERT_EQ(0, put(self->r.c, SEED, 0, n));
		close_fd(&self->r.c);
		sleep_ms(n % 3 * 5);
		ASSERT_EQ(n, take_rest(self->r.s, SEED, 0));
		close_fd(&self->r.s);
		ends(token, SPL_EOF, 0, n);
		reopened();
	}
	EXPECT_LT(0, COUNTED(BYPASS_BYTES));
}

TEST_F(sockmap_bypass, reset_behind_bytes)
{
	uint64_t token;

	relayed(NULL);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50000));
	ASSERT_EQ(0, wait_queued(self->r.s, 50000));
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	ended_both(SPL_SOURCE_FAILED, ECONNRESET, 50000, 0);
	EXPECT_EQ(0, at_reset(self->r.s));
}

/* The peer goes away with bytes unread: who sends to it learns of it, and so does the relay. */
TEST_F(sockmap_bypass, peer_closes_with_bytes_unread)
{
	struct spl_event ev;
	uint64_t token;
	int i;

	relayed(NULL);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50000));
	ASSERT_EQ(0, wait_queued(self->r.s, 50000));
	close_fd(&self->r.s);
	for (i = 0; i < 200 && send(self->r.c, "x", 1, MSG_NOSIGNAL) == 1; i++)
		sleep_ms(5);
	EXPECT_GT(200, i);
	EXPECT_TRUE(errno == EPIPE || errno == ECONNRESET);
	close_fd(&self->r.c);
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_LE(50000, ev.bytes);
}

/* ---- the operation ended from here */

/* What has been counted when nothing is any more: who has decided may not have counted yet. */
#define SETTLED(what)									\
	({										\
		uint64_t settled_;							\
		do {									\
			settled_ = COUNTED(what);					\
			sleep_ms(50);							\
		} while (settled_ != COUNTED(what));					\
		settled_;								\
	})

TEST_F_TIMEOUT(sockmap_bypass, cancelled_in_the_middle, 120)
{
	uint64_t token, state = 11, crossed = 0;
	struct spl_event ev;
	unsigned int i;

	for (i = 0; i < scaled(60); i++) {
		struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL, .chunk = rnd_size(&state, 60000) };
		struct stream rx = { .fd = self->r.s, .seed = SEED, .len = SPL_ALL };
		int fds[2] = { self->r.a, self->r.b };
		uint64_t left;

		begun(spl_splice_pair(self->s, fds[0], fds[1], OPTS(.flags = SPL_F_KEEP), &token));
		ASSERT_EQ(0, stream_send(&tx));
		ASSERT_EQ(0, stream_recv(&rx));
		usleep(1000 + rnd_below(&state, 20000));
		ASSERT_EQ(0, spl_cancel(self->s, token));
		ASSERT_EQ(0, event_of(self->s, token, &ev));
		EXPECT_EQ(SPL_CANCELED, ev.cause);
		ASSERT_EQ(0, shutdown(fds[1], SHUT_WR));
		/* nothing goes past the ends any more: they are ours, and all the rest comes here */
		crossed = SETTLED(BYPASS_BYTES);
		tx.stop = true;
		left = 0;
		ASSERT_EQ(0, stream_join(&rx));
		/* nor is any of them behind the FIN */
		EXPECT_EQ(ev.bytes, rx.done);
		while (left + ev.bytes < tx.done || poll_fd(fds[0], POLLIN, QUIET_MS)) {
			uint8_t buf[65536];
			ssize_t n = recv(fds[0], buf, sizeof(buf), 0);

			ASSERT_LT(0, n);
			ASSERT_EQ(0, pattern_check(buf, n, SEED, ev.bytes + left));
			left += n;
		}
		stream_join(&tx);
		EXPECT_EQ(tx.done, ev.bytes + left);
		EXPECT_EQ(crossed, COUNTED(BYPASS_BYTES));
		reopened();
	}
	EXPECT_LT(0, crossed);
}

TEST_F(sockmap_bypass, revoked)
{
	uint64_t token;

	relayed(NULL);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50000));
	ASSERT_EQ(0, spl_revoke(self->s, token, ECONNABORTED));
	ended_both(SPL_REVOKED, ECONNABORTED, 50000, 0);
	EXPECT_EQ(0, at_reset(self->r.c));
	EXPECT_EQ(0, at_reset(self->r.s));
}

TEST_F(sockmap_bypass, reclaimed)
{
	uint64_t token;
	int fds[2];

	relayed(NULL);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50000));
	ASSERT_EQ(0, spl_reclaim(self->s, token, fds));
	ended_both(SPL_CANCELED, 0, 50000, 0);
	ASSERT_EQ(0, put(self->r.c, SEED, 50000, 3000));
	ASSERT_EQ(0, take(fds[0], SEED, 50000, 3000));
	ASSERT_EQ(0, put(fds[1], SEED, 50000, 3000));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 53000));
	/* and again */
	begun(spl_splice_pair(self->s, fds[0], fds[1], NULL, &token));
	ASSERT_EQ(0, put(self->r.c, SEED, 53000, 4000));
	ASSERT_EQ(0, take(self->r.s, SEED, 53000, 4000));
	EXPECT_EQ(54000, COUNTED(BYPASS_BYTES));
	ASSERT_EQ(0, spl_cancel(self->s, token));
	ended_both(SPL_CANCELED, 0, 4000, 0);
}

TEST_F(sockmap_bypass, idle_limit)
{
	uint64_t token, began, last, pos = 0;
	struct spl_event ev;

	relayed(OPTS(.idle_ms = 200));
	for (began = now_ms(); now_ms() - began < 900; pos += 100) {
		last = now_ms();
		ASSERT_EQ(0, put(self->r.c, SEED, pos, 100));
		ASSERT_EQ(0, take(self->r.s, SEED, pos, 100));
		sleep_ms(20);
	}
	EXPECT_EQ(pos, COUNTED(BYPASS_BYTES));
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(SPL_IDLE, ev.cause);
	EXPECT_EQ(pos, ev.bytes);
	/* the kernel's clock is coarse: two ticks */
	EXPECT_LE(180, now_ms() - last);
	EXPECT_GE(1000, now_ms() - last);
}

SUITE_MAIN
