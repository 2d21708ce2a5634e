// SPDX-License-Identifier: GPL-2.0
/* forward.c: a flow that borrows its two ends, for n bytes or to the end of the stream. */
#include "harness.h"

#define SEED 1

FIXTURE(forward) {
	struct spl *s;
	struct relay r;
};

FIXTURE_VARIANT(forward) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_SOCKETS(forward);
KMOD_MORE_TLS(forward);
USER_SOCKETS(forward);
USER_PIPES(forward);
USER_LOSSLESS(forward);
USER_TLS(forward);
USER_MORE_TLS(forward);

FIXTURE_SETUP(forward)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(forward)
{
	spl_close(self->s);
	relay_close(&self->r);
}

/* Starts a forward from a to b. */
#define start(n, opts, token)	\
	ASSERT_EQ(0, spl_forward(self->s, self->r.a, self->r.b, n, opts, token)) {	\
		TH_LOG("refused: %s", spl_strerror_last(self->s));			\
	}

#define ends_with(token, why, count)					\
	do {								\
		struct spl_event __ev;					\
		ASSERT_EQ(0, event_of(self->s, token, &__ev));		\
		EXPECT_EQ(why, __ev.cause) {				\
			TH_LOG("ended %s", spl_cause_name(__ev.cause));	\
		}							\
		EXPECT_EQ(0, __ev.error);				\
		EXPECT_EQ((uint64_t)(count), __ev.bytes);		\
		EXPECT_EQ(0, __ev.bytes_back);				\
	} while (0)

/* The byte after n stays for the caller, whatever the chunks that n came in. */
TEST_F_TIMEOUT(forward, exact_n, 300)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL, .chunk = 20000,
			     .pause_us = 2000 };
	uint64_t state = variant->net + 1, pos = 0, token;
	unsigned int i, rounds = bulk(variant->net, scaled(1000));
	size_t n, own;

	ASSERT_EQ(0, stream_send(&tx));
	for (i = 0; i < rounds; i++) {
		n = rnd_size(&state, 100000);
		own = rnd_size(&state, 3000);
		start(n, NULL, &token);
		ASSERT_EQ(0, take(self->r.s, SEED, pos, n));
		ends_with(token, SPL_DONE, n);
		ASSERT_EQ(0, take(self->r.a, SEED, pos + n, own)) {
			TH_LOG("round %u: byte after n=%zu", i, n);
		}
		pos += n + own;
		ASSERT_EQ(1, _metadata->passed);
	}
	tx.stop = true;
	ASSERT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, take(self->r.a, SEED, pos, tx.done - pos));
}

/* The same with the message complete before the start, and after it. */
TEST_F_TIMEOUT(forward, exact_n_whole_messages, 120)
{
	uint64_t state = 7, in = 0, token;
	unsigned int i, rounds = repeats(variant->net, 400);
	size_t n, own;

	for (i = 0; i < rounds; i++, in += n + own) {
		n = rnd_size(&state, 8000);
		own = rnd_size(&state, 100);
		if (i % 2)
			ASSERT_EQ(0, put(self->r.c, SEED, in, n + own));
		if (i % 4 == 1)
			ASSERT_EQ(0, wait_queued(self->r.a, n + own));
		start(n, NULL, &token);
		if (i % 2 == 0)
			ASSERT_EQ(0, put(self->r.c, SEED, in, n + own));
		ends_with(token, SPL_DONE, n);
		ASSERT_EQ(0, take(self->r.s, SEED, in, n));
		ASSERT_EQ(0, wait_queued(self->r.a, own));
		ASSERT_EQ(own, queued(self->r.a));
		ASSERT_EQ(0, take(self->r.a, SEED, in + n, own));
		ASSERT_EQ(1, _metadata->passed);
	}
}

TEST_F(forward, zero)
{
	uint64_t token = 0;

	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, wait_queued(self->r.a, 10));
	start(0, NULL, &token);
	EXPECT_NE(0, token);
	ends_with(token, SPL_DONE, 0);
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, take(self->r.a, SEED, 0, 10));
}

/* To the end of the stream; the end itself is not propagated, the sink stays the caller's. */
TEST_F(forward, all)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = 700000, .fin = true };
	uint64_t token;

	start(SPL_ALL, NULL, &token);
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, tx.len));
	ends_with(token, SPL_EOF, tx.len);
	ASSERT_EQ(0, stream_join(&tx));
	self->r.c = tx.fd;
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, at_eof(self->r.a));
	EXPECT_EQ(0, put(self->r.b, SEED, tx.len, 5000));
	EXPECT_EQ(0, take(self->r.s, SEED, tx.len, 5000));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

/* All of it and the FIN have come before the start. */
TEST_F(forward, all_queued_before)
{
	struct spl_event ev;
	uint64_t token;

	ASSERT_EQ(0, put(self->r.c, SEED, 0, 30000));
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, wait_queued(self->r.a, 30000));
	start(SPL_ALL, NULL, &token);
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(SPL_EOF, ev.cause);
	EXPECT_EQ(30000, ev.bytes);
	EXPECT_EQ(SPL_END_SOURCE, ev.ended);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 30000));
	EXPECT_EQ(0, at_quiet(self->r.s));
}

/* Nothing left but the end: ends at once. */
TEST_F(forward, all_of_nothing)
{
	uint64_t token;

	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_LT(0, poll_fd(self->r.a, POLLRDHUP, WAIT_MS));
	start(SPL_ALL, NULL, &token);
	ends_with(token, SPL_EOF, 0);
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

NEEDS(forward, shutdown_when_asked, NEEDS_TWO_WAY);
TEST_F(forward, shutdown_when_asked)
{
	uint64_t token;

	start(SPL_ALL, OPTS(.flags = SPL_F_SHUTDOWN), &token);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 3000));
	ASSERT_EQ(0, fin(&self->r.c));
	ends_with(token, SPL_EOF, 3000);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 3000));
	EXPECT_EQ(0, at_eof(self->r.s));
	/* the other halves still work */
	EXPECT_EQ(0, put(self->r.s, SEED, 0, 10));
	EXPECT_EQ(0, take(self->r.b, SEED, 0, 10));
	EXPECT_EQ(0, put(self->r.a, SEED, 0, 10));
	EXPECT_EQ(0, take(self->r.c, SEED, 0, 10));
}

/* Reaching n is no end of stream: nothing is shut down. */
TEST_F(forward, no_shutdown_at_n)
{
	uint64_t token;

	start(100, OPTS(.flags = SPL_F_SHUTDOWN), &token);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100));
	ends_with(token, SPL_DONE, 100);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 100));
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

TEST_F(forward, short_count_at_end)
{
	struct spl_event ev;
	uint64_t token;

	start(1000, NULL, &token);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 700));
	ASSERT_EQ(0, no_event(self->s));
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(SPL_EOF, ev.cause);
	EXPECT_EQ(700, ev.bytes);
	EXPECT_EQ(SPL_END_SOURCE, ev.ended);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 700));
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, at_eof(self->r.a));
}

/* Byte n and FIN in one segment: DONE, and the caller reads the end of the stream. */
TEST_F(forward, fin_with_byte_n)
{
	unsigned int before;
	uint64_t token;

	for (before = 0; before < 2; before++) {
		if (!before)
			start(700, NULL, &token);
		ASSERT_EQ(0, cork(self->r.c));
		ASSERT_EQ(0, put(self->r.c, SEED, 0, 700));
		ASSERT_EQ(0, fin(&self->r.c));
		if (before) {
			ASSERT_EQ(0, wait_queued(self->r.a, 700));
			start(700, NULL, &token);
		}
		ends_with(token, SPL_DONE, 700);
		EXPECT_EQ(0, take(self->r.s, SEED, 0, 700));
		EXPECT_EQ(0, at_quiet(self->r.s));
		EXPECT_EQ(0, at_eof(self->r.a));
		relay_close(&self->r);
		ASSERT_EQ(0, relay_open(&self->r, variant->net));
	}
}

/* One byte more than n and FIN in one segment: the byte is the caller's, then the end. */
TEST_F(forward, fin_after_the_rest)
{
	uint64_t token;

	start(700, NULL, &token);
	ASSERT_EQ(0, cork(self->r.c));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 701));
	ASSERT_EQ(0, fin(&self->r.c));
	ends_with(token, SPL_DONE, 700);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 700));
	EXPECT_EQ(0, take(self->r.a, SEED, 700, 1));
	EXPECT_EQ(0, at_eof(self->r.a));
}

/* Header by hand, body by forward, next header by hand: a proxy's day. */
TEST_F(forward, caller_uses_ends_between)
{
	uint64_t token, in = 0, out = 0;
	unsigned int i;

	for (i = 0; i < 20; i++, in += 320, out += 300) {
		ASSERT_EQ(0, put(self->r.c, SEED, in, 320));
		ASSERT_EQ(0, take(self->r.a, SEED, in, 20));
		ASSERT_EQ(0, put(self->r.b, 2, i * 13, 13));
		start(300, NULL, &token);
		ends_with(token, SPL_DONE, 300);
		ASSERT_EQ(0, put(self->r.b, 3, i * 7, 7));
		ASSERT_EQ(0, take(self->r.s, 2, i * 13, 13));
		ASSERT_EQ(0, take(self->r.s, SEED, in + 20, 300));
		ASSERT_EQ(0, take(self->r.s, 3, i * 7, 7));
		ASSERT_EQ(0, alive(self->r.a, self->r.c));
	}
}

TEST_F(forward, user_data_comes_back)
{
	struct spl_event ev;
	uint64_t token;

	start(10, OPTS(.user_data = 0xfedcba9876543210ull), &token);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(0xfedcba9876543210ull, ev.user_data);
	EXPECT_EQ(0, ev.ended);
}

TEST_F(forward, one_event_after_the_call)
{
	struct spl_event ev;
	uint64_t token;

	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, wait_queued(self->r.a, 10));
	start(10, NULL, &token);
	ASSERT_EQ(1, spl_next(self->s, &ev, WAIT_MS));
	EXPECT_EQ(token, ev.token);
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(-ENOENT, spl_wait(self->s, token, &ev, 0));
}

TEST_F(forward, not_for_splices_only)
{
	uint64_t token = 17;

	EXPECT_EQ(-EINVAL, spl_forward(self->s, self->r.a, self->r.b, 1,
				       OPTS(.flags = SPL_F_KEEP), &token));
	EXPECT_LT(0, strlen(spl_strerror_last(self->s)));
	EXPECT_EQ(-EINVAL, spl_forward(self->s, self->r.a, self->r.b, 1, OPTS(.max = 5), &token));
	EXPECT_LT(0, strlen(spl_strerror_last(self->s)));
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

SUITE_MAIN
