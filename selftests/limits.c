// SPDX-License-Identifier: GPL-2.0
/* limits.c: how much and how long: max each way, idle_ms. */
#include "harness.h"

#define SEED 1
#define BACK 2

FIXTURE(limits) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	struct spl_event ev;
};

FIXTURE_VARIANT(limits) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_SOCKETS(limits);
USER_SOCKETS(limits);
USER_PIPES(limits);
USER_LOSSLESS(limits);
USER_TLS(limits);

FIXTURE_SETUP(limits)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(limits)
{
	spl_close(self->s);
	relay_close(&self->r);
}

/* Gives a and b away. */
#define give(call, ...)									\
	do {										\
		begun(call(self->s, self->r.a, self->r.b, OPTS(__VA_ARGS__), &self->token)); \
		self->r.a = self->r.b = -1;						\
	} while (0)

#define lend(call, ...)									\
	begun(call(self->s, self->r.a, self->r.b, OPTS(.flags = SPL_F_KEEP, __VA_ARGS__), \
		   &self->token))

/* Reading max bytes ends it; what had come after them went with the socket. */
NEEDS(limits, max_of_a_pair, NEEDS_TWO_WAY | NEEDS_LIMITED_PAIR);
TEST_F(limits, max_of_a_pair)
{
	give(spl_splice_pair, .max = 1000);
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 300));
	ASSERT_EQ(0, take(self->r.c, BACK, 0, 300));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 999));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 999));
	ASSERT_EQ(0, no_event(self->s));
	ASSERT_EQ(0, put(self->r.c, SEED, 999, 1));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_DONE, self->ev.cause);
	EXPECT_EQ(0, self->ev.error);
	EXPECT_EQ(1000, self->ev.bytes);
	EXPECT_EQ(300, self->ev.bytes_back);
	EXPECT_EQ(1, take_rest(self->r.s, SEED, 999));
	EXPECT_EQ(0, at_eof(self->r.c));
}

NEEDS(limits, max_of_the_way_back, NEEDS_TWO_WAY);
TEST_F(limits, max_of_the_way_back)
{
	lend(spl_splice_pair, .max = 1000);
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 1500));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_DONE, self->ev.cause);
	EXPECT_EQ(0, self->ev.bytes);
	EXPECT_EQ(1000, self->ev.bytes_back);
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 1000));
	EXPECT_EQ(0, at_quiet(self->r.c));
	/* kept: the rest is the caller's to read */
	EXPECT_EQ(0, take(self->r.b, BACK, 1000, 500));
	EXPECT_EQ(0, alive(self->r.a, self->r.c));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

/* The caller copies the rest, in bulk and whatever its chunks. */
TEST_F_TIMEOUT(limits, rest_stays_readable, 120)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };
	unsigned int i, rounds = scaled(40);
	uint64_t state = 5, pos = 0;
	size_t max, own;

	ASSERT_EQ(0, stream_send(&tx));
	for (i = 0; i < rounds; i++, pos += max + own) {
		max = rnd_size(&state, bulk(variant->net, 1000000));
		own = rnd_size(&state, 5000);
		lend(spl_splice, .max = max);
		ASSERT_EQ(0, take(self->r.s, SEED, pos, max));
		ends(self->token, SPL_DONE, 0, max);
		if (i % 8 == 0)
			EXPECT_EQ(0, at_quiet(self->r.s));
		ASSERT_EQ(0, take(self->r.a, SEED, pos + max, own)) {
			TH_LOG("round %u: max %zu", i, max);
		}
		ASSERT_EQ(1, _metadata->passed);
	}
	tx.stop = true;
	ASSERT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, take(self->r.a, SEED, pos, tx.done - pos));
}

/* Exactly max and the end of the stream: whichever it is told as, all is delivered. */
TEST_F(limits, end_at_max)
{
	lend(spl_splice, .max = 1000);
	ASSERT_EQ(0, cork(self->r.c));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 1000));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_TRUE(self->ev.cause == SPL_DONE || self->ev.cause == SPL_EOF);
	EXPECT_EQ(1000, self->ev.bytes);
}

TEST_F(limits, end_before_max)
{
	lend(spl_splice, .max = 1000);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 999));
	ASSERT_EQ(0, fin(&self->r.c));
	ends(self->token, SPL_EOF, 0, 999);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 999));
}

/* A byte in either direction keeps a pair alive. */
NEEDS(limits, idle_of_a_pair, NEEDS_TWO_WAY);
TEST_F(limits, idle_of_a_pair)
{
	/* a guest under TCG has its pauses */
	unsigned int ms = variant->engine == SPL_ENGINE_KMOD ? 1000 : 400;
	uint64_t last = 0, pos;

	give(spl_splice_pair, .idle_ms = ms);
	for (pos = 0; pos < 8; pos++) {
		int from = pos < 5 ? self->r.s : self->r.c, to = pos < 5 ? self->r.c : self->r.s;

		ASSERT_EQ(0, put(from, SEED, pos, 1));
		last = now_ms();
		ASSERT_EQ(0, take(to, SEED, pos, 1));
		sleep_ms(ms * 2 / 5);
	}
	EXPECT_EQ(0, no_event(self->s));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_IDLE, self->ev.cause);
	EXPECT_EQ(0, self->ev.error);
	EXPECT_LE(ms - 10, now_ms() - last);
	EXPECT_GT(6000, now_ms() - last);
	EXPECT_EQ(3, self->ev.bytes);
	EXPECT_EQ(5, self->ev.bytes_back);
	EXPECT_EQ(0, at_eof(self->r.c));
	EXPECT_EQ(0, at_eof(self->r.s));
}

TEST_F(limits, idle_from_the_start)
{
	uint64_t began = now_ms();

	lend(spl_splice, .idle_ms = 200);
	ends(self->token, SPL_IDLE, 0, 0);
	EXPECT_LE(190, now_ms() - began);	/* the kernel counts in ticks, of 4 ms */
	EXPECT_GT(5000, now_ms() - began);
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

/* A sink that takes nothing is idle too, however much there is to send; nothing of it is lost. */
TEST_F_TIMEOUT(limits, idle_while_blocked, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };

	begun(spl_forward(self->s, self->r.a, self->r.b, SPL_ALL, OPTS(.idle_ms = 600),
			  &self->token));
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_IDLE, self->ev.cause);
	tx.stop = true;
	EXPECT_EQ(0, take(self->r.s, SEED, 0, self->ev.bytes));
	EXPECT_EQ(0, at_quiet(self->r.s));
	ASSERT_EQ(0, stream_join(&tx));
	EXPECT_LT(self->ev.bytes, tx.done);
	EXPECT_EQ(0, take_back(self->s, self->token, self->r.a, SEED, self->ev.bytes,
			       tx.done - self->ev.bytes));
}

/* Many with different limits end in the order of their limits. */
TEST_F(limits, idle_in_order)
{
	static const unsigned int order[] = { 5, 1, 4, 2, 3 };
	/* a guest under TCG has its pauses */
	unsigned int ms = variant->engine == SPL_ENGINE_KMOD ? 200 : 100;
	struct relay r[ARRAY_SIZE(order)];
	struct spl_event ev;
	uint64_t token;
	int i;

	for (i = 0; i < ARRAY_SIZE(order); i++)
		ASSERT_EQ(0, relay_open(r + i, variant->net));
	for (i = 0; i < ARRAY_SIZE(order); i++)
		begun(spl_forward(self->s, r[i].a, r[i].b, SPL_ALL,
				  OPTS(.idle_ms = order[i] * ms, .user_data = order[i]), &token));
	for (i = 1; i <= ARRAY_SIZE(order); i++) {
		ASSERT_EQ(1, spl_next(self->s, &ev, WAIT_MS));
		EXPECT_EQ(SPL_IDLE, ev.cause);
		EXPECT_EQ(i, ev.user_data);
	}
	for (i = 0; i < ARRAY_SIZE(order); i++)
		relay_close(r + i);
}

SUITE_MAIN
