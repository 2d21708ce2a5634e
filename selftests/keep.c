// SPDX-License-Identifier: GPL-2.0
/* keep.c: SPL_F_KEEP: a splice whose descriptors stay the caller's, as they were. */
#include "harness.h"

#define SEED 1
#define BACK 2

FIXTURE(keep) {
	struct spl *s;
	struct relay r;
	uint64_t token;
};

FIXTURE_VARIANT(keep) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_SOCKETS(keep);
KMOD_MORE_TLS(keep);
USER_SOCKETS(keep);
USER_LOSSLESS(keep);
USER_TLS(keep);

FIXTURE_SETUP(keep)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(keep)
{
	spl_close(self->s);
	relay_close(&self->r);
}

#define lend()	begun(spl_splice_pair(self->s, self->r.a, self->r.b,		\
				      OPTS(.flags = SPL_F_KEEP), &self->token))

TEST_F(keep, given_back_by_cancel)
{
	lend();
	ASSERT_EQ(true, fd_open(self->r.a) && fd_open(self->r.b));
	ASSERT_EQ(0, alive(self->r.c, self->r.s));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ends(self->token, SPL_CANCELED, 0, 1);
	EXPECT_EQ(0, alive(self->r.a, self->r.c));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

NEEDS(keep, busy_meanwhile, SPL_CAP_EXCLUSIVE);
TEST_F(keep, busy_meanwhile)
{
	char byte;

	lend();
	EXPECT_EQ(-1, recv(self->r.a, &byte, 1, MSG_DONTWAIT));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(-1, send(self->r.a, &byte, 1, MSG_DONTWAIT));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(0, poll_fd(self->r.b, POLLIN | POLLOUT, 0));
	ASSERT_EQ(0, alive(self->r.c, self->r.s));
}

/* close() of a kept descriptor sends no FIN before the splice has ended. */
TEST_F(keep, and_close)
{
	lend();
	close_fd(&self->r.a);
	close_fd(&self->r.b);
	EXPECT_EQ(0, alive(self->r.c, self->r.s));
	EXPECT_EQ(0, at_quiet(self->r.c));
	EXPECT_EQ(0, at_quiet(self->r.s));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ends(self->token, SPL_CANCELED, 0, 1);
	EXPECT_EQ(0, at_eof(self->r.c));
	EXPECT_EQ(0, at_eof(self->r.s));
}

/* After the end of both streams they are open, and over. */
TEST_F(keep, to_the_end)
{
	char byte = 0;

	lend();
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100000));
	ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(100000, take_rest(self->r.s, SEED, 0));
	ASSERT_EQ(0, fin(&self->r.s));
	EXPECT_EQ(0, at_eof(self->r.c));
	ends(self->token, SPL_EOF, 0, 100000);
	ASSERT_EQ(true, fd_open(self->r.a) && fd_open(self->r.b));
	EXPECT_EQ(0, at_eof(self->r.a));
	/* TLS takes bytes before it finds that TCP does not */
	if (!is_tls(self->r.b)) {
		EXPECT_EQ(-1, send(self->r.b, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
		EXPECT_EQ(EPIPE, errno);
	}
}

/* A failure is passed on all the same; the descriptors are there to be closed. */
NEEDS(keep, reset, NEEDS_TCP_CLIENT);
TEST_F(keep, reset)
{
	lend();
	ASSERT_EQ(0, alive(self->r.c, self->r.s));
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	EXPECT_EQ(0, at_cut_by(variant->engine, self->r.b, self->r.s));
	ends(self->token, SPL_SOURCE_FAILED, ECONNRESET, 1);
	EXPECT_EQ(true, fd_open(self->r.a) && fd_open(self->r.b));
}

/* Lent again and again, used by hand in between. */
TEST_F_TIMEOUT(keep, again_and_again, 60)
{
	unsigned int i, rounds = scaled(50);

	for (i = 0; i < rounds; i++) {
		lend();
		ASSERT_EQ(0, put(self->r.c, SEED, i * 10, 10));
		ASSERT_EQ(0, take(self->r.s, SEED, i * 10, 10));
		ASSERT_EQ(0, put(self->r.s, BACK, i * 20, 20));
		ASSERT_EQ(0, take(self->r.c, BACK, i * 20, 20));
		ASSERT_EQ(0, spl_cancel(self->s, self->token));
		ends(self->token, SPL_CANCELED, 0, 10);
		ASSERT_EQ(0, alive(self->r.a, self->r.c));
		ASSERT_EQ(0, alive(self->r.b, self->r.s));
	}
}

/* Bulk through it, cancelled in the middle both ways: nothing is missing on either side. */
TEST_F_TIMEOUT(keep, cancelled_in_bulk, 120)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };
	struct stream back = { .fd = self->r.s, .seed = BACK, .len = SPL_ALL };
	uint64_t half = bulk(variant->net, 2000000);
	struct spl_event ev;

	lend();
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_send(&back));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, half));
	ASSERT_EQ(0, take(self->r.c, BACK, 0, half));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	tx.stop = back.stop = true;
	EXPECT_EQ(0, take(self->r.s, SEED, half, ev.bytes - half));
	EXPECT_EQ(0, take(self->r.c, BACK, half, ev.bytes_back - half));
	ASSERT_EQ(0, stream_join(&tx));
	ASSERT_EQ(0, stream_join(&back));
	EXPECT_EQ(0, take(self->r.a, SEED, ev.bytes, tx.done - ev.bytes));
	EXPECT_EQ(0, take(self->r.b, BACK, ev.bytes_back, back.done - ev.bytes_back));
}

SUITE_MAIN
