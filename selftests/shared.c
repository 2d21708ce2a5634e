// SPDX-License-Identifier: GPL-2.0
/* shared.c: two operations on the two halves of one socket: each has its own bytes, errors and end. */
#include "harness.h"

#define SEED 1
#define BACK 2

FIXTURE(shared) {
	struct spl *s, *other;
	struct relay r;
	uint64_t there, back;
	struct spl_event ev;
};

FIXTURE_VARIANT(shared) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
	bool two;		/* contexts, one for each direction */
};

KMOD_FEW(shared);
VARIANT(shared, kmod_v4_two, .engine = SPL_ENGINE_KMOD, .net = NET_V4, .two = true);
VARIANT(shared, kmod_unix_two, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX, .two = true);
VARIANT(shared, kmod_tls_two, .engine = SPL_ENGINE_KMOD, .net = NET_TLS, .two = true);
USER_SOCKETS(shared);
USER_LOSSLESS(shared);
USER_TLS(shared);
VARIANT(shared, sockmap_v4_two, .engine = SPL_ENGINE_SOCKMAP, .net = NET_V4, .two = true);
VARIANT(shared, user_v4_two, .engine = SPL_ENGINE_USER, .net = NET_V4, .two = true);
VARIANT(shared, user_unix_two, .engine = SPL_ENGINE_USER, .net = NET_UNIX, .two = true);

FIXTURE_SETUP(shared)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	self->other = self->s;
	if (variant->two)
		ASSERT_EQ(0, engine_open_with(&self->other, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(shared)
{
	if (self->other != self->s)
		spl_close(self->other);
	spl_close(self->s);
	relay_close(&self->r);
}

#define forward_there(n)	\
	begun(spl_forward(self->s, self->r.a, self->r.b, n, NULL, &self->there))
#define forward_back(n)		\
	begun(spl_forward(self->other, self->r.b, self->r.a, n, NULL, &self->back))

#define ended(s, tok, why, err)								\
	do {										\
		ASSERT_EQ(0, event_of(s, tok, &self->ev));				\
		EXPECT_EQ(why, self->ev.cause) {					\
			TH_LOG("ended %s: %s", spl_cause_name(self->ev.cause),		\
			       strerror(self->ev.error));				\
		}									\
		EXPECT_EQ(err, self->ev.error);						\
	} while (0)

/* What came while only the other half was copying is there for whoever begins now. */
TEST_F(shared, bytes_from_before)
{
	forward_there(SPL_ALL);
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 500));
	ASSERT_EQ(0, wait_queued(self->r.b, 500));
	sleep_ms(20);
	forward_back(SPL_ALL);
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 500));
	EXPECT_EQ(0, alive(self->r.c, self->r.s));
}

/* So is room that came. */
TEST_F_TIMEOUT(shared, room_from_before, 60)
{
	int64_t before;

	before = stuff(self->r.a, BACK);
	ASSERT_LT(0, before);
	forward_there(SPL_ALL);
	ASSERT_EQ(0, take(self->r.c, BACK, 0, before));
	sleep_ms(20);
	forward_back(SPL_ALL);
	EXPECT_EQ(0, alive(self->r.c, self->r.s));
}

/* One ends and begins again, the other goes on all the while. */
TEST_F_TIMEOUT(shared, one_after_another, 100)
{
	struct stream tx = { .fd = self->r.s, .seed = BACK, .len = SPL_ALL, .pause_us = 300 };
	struct stream rx = { .fd = self->r.c, .seed = BACK, .len = SPL_ALL };
	unsigned int i, rounds = bulk(variant->net, scaled(200));
	uint64_t state = 8, pos = 0;
	size_t n;

	forward_back(SPL_ALL);
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_recv(&rx));
	for (i = 0; i < rounds; i++, pos += n) {
		n = rnd_size(&state, 30000);
		forward_there(n);
		ASSERT_EQ(0, put(self->r.c, SEED, pos, n));
		ended(self->s, self->there, SPL_DONE, 0);
		ASSERT_EQ(0, take(self->r.s, SEED, pos, n));
		ASSERT_EQ(1, _metadata->passed);
	}
	tx.stop = tx.fin = true;
	EXPECT_EQ(0, stream_join(&tx));
	ended(self->other, self->back, SPL_EOF, 0);
	EXPECT_EQ(tx.done, self->ev.bytes);
	ASSERT_EQ(0, fin(&self->r.a));
	EXPECT_EQ(0, stream_join(&rx));
	EXPECT_EQ(tx.done, rx.done);
}

/* A reset is the source's failure for one and the sink's for the other: neither keeps it from the other. */
NEEDS(shared, reset_is_for_both, NEEDS_TCP_SERVER);
TEST_F(shared, reset_is_for_both)
{
	forward_there(SPL_ALL);
	forward_back(SPL_ALL);
	ASSERT_EQ(0, alive(self->r.c, self->r.s));
	ASSERT_EQ(0, tcp_reset(&self->r.s));
	ended(self->s, self->there, SPL_SINK_FAILED, ECONNRESET);
	ended(self->other, self->back, SPL_SOURCE_FAILED, ECONNRESET);
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
}

/* The caller, too, may be the first to be told: he has the half that is free. */
NEEDS(shared, reset_read_by_the_caller, NEEDS_TCP_SERVER);
TEST_F(shared, reset_read_by_the_caller)
{
	char byte;

	forward_there(SPL_ALL);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 10));
	ASSERT_EQ(0, tcp_reset(&self->r.s));
	poll_fd(self->r.b, POLLIN, WAIT_MS);
	recv(self->r.b, &byte, 1, MSG_DONTWAIT);
	ASSERT_EQ(0, event_of(self->s, self->there, &self->ev));
	EXPECT_EQ(SPL_SINK_FAILED, self->ev.cause);
	EXPECT_TRUE(self->ev.error == ECONNRESET || self->ev.error == EPIPE);
}

/* A pair made of two splices: what the first one ended with does not soften what the second one ends with. */
NEEDS(shared, reset_after_an_end, NEEDS_TCP);
TEST_F(shared, reset_after_an_end)
{
	int a = dup(self->r.a), b = dup(self->r.b);

	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->there));
	begun(spl_splice(self->other, b, a, NULL, &self->back));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, alive(self->r.c, self->r.s));
	ASSERT_EQ(0, fin(&self->r.c));
	ended(self->s, self->there, SPL_EOF, 0);
	EXPECT_EQ(0, at_eof(self->r.s));
	ASSERT_EQ(0, tcp_reset(&self->r.s));
	ended(self->other, self->back, SPL_SOURCE_FAILED, ECONNRESET);
	EXPECT_EQ(0, at_reset(self->r.c));
}

/* At full speed. */
TEST_F_TIMEOUT(shared, bulk_both_ways, 60)
{
	unsigned int there = bulk(variant->net, 4000000), back = bulk(variant->net, 3000000);
	struct stream st[4] = {
		{ .fd = self->r.c, .seed = SEED, .len = there },
		{ .fd = self->r.s, .seed = SEED, .len = there },
		{ .fd = self->r.s, .seed = BACK, .len = back },
		{ .fd = self->r.c, .seed = BACK, .len = back },
	};
	int i;

	forward_there(there);
	forward_back(back);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, i % 2 ? stream_recv(st + i) : stream_send(st + i));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, stream_join(st + i));
	ended(self->s, self->there, SPL_DONE, 0);
	ended(self->other, self->back, SPL_DONE, 0);
}

SUITE_MAIN
