// SPDX-License-Identifier: GPL-2.0
/* prefix.c: bytes of the caller before the first and after the last of the source; they are not counted. */
#include "harness.h"

#define SEED 1
#define BACK 2
#define FRONT 3		/* the stream of prefixes */
#define REAR 4		/* and of suffixes */
#define MOST 65536

FIXTURE(prefix) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	uint8_t front[MOST], rear[MOST];
};

FIXTURE_VARIANT(prefix) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_SOCKETS(prefix);
USER_SOCKETS(prefix);
USER_PIPES(prefix);
USER_LOSSLESS(prefix);
USER_TLS(prefix);

FIXTURE_SETUP(prefix)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	pattern_fill(self->front, MOST, FRONT, 0);
	pattern_fill(self->rear, MOST, REAR, 0);
}

FIXTURE_TEARDOWN(prefix)
{
	spl_close(self->s);
	relay_close(&self->r);
}

#define PREFIX(n)	.prefix = self->front, .prefix_len = n
#define SUFFIX(n)	.suffix = self->rear, .suffix_len = n

#define forward(n, ...)									\
	begun(spl_forward(self->s, self->r.a, self->r.b, n, OPTS(__VA_ARGS__), &self->token))

TEST_F(prefix, goes_first)
{
	forward(1000, PREFIX(300));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1001));
	EXPECT_EQ(0, take(self->r.s, FRONT, 0, 300));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
	ends(self->token, SPL_DONE, 0, 1000);
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, take(self->r.a, SEED, 1000, 1));
}

/* It does not wait for the source's first byte. */
TEST_F(prefix, goes_at_once)
{
	struct spl_stat st;

	forward(10, PREFIX(300));
	EXPECT_EQ(0, take(self->r.s, FRONT, 0, 300));
	/* who has sent it may still be looking for more */
	sleep_ms(QUIET_MS);
	ASSERT_EQ(0, spl_stat(self->s, self->token, &st));
	EXPECT_EQ(0, st.bytes);
	EXPECT_EQ(SPL_WANTS_READ, st.wants);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ends(self->token, SPL_DONE, 0, 10);
}

/* The source is not touched for nothing. */
TEST_F(prefix, alone)
{
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, wait_queued(self->r.a, 10));
	forward(0, PREFIX(300), SUFFIX(200));
	ends(self->token, SPL_DONE, 0, 0);
	EXPECT_EQ(0, take(self->r.s, FRONT, 0, 300));
	EXPECT_EQ(0, take(self->r.s, REAR, 0, 200));
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, take(self->r.a, SEED, 0, 10));
}

/* The caller's memory is the caller's again when the call returns, also if nothing could be sent. */
TEST_F_TIMEOUT(prefix, most_to_a_full_sink, 60)
{
	int64_t before = stuff(self->r.b, BACK);

	ASSERT_LT(0, before);
	forward(1000, PREFIX(MOST), SUFFIX(MOST));
	memset(self->front, 0, MOST);
	memset(self->rear, 0, MOST);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1001));
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, take(self->r.s, BACK, 0, before));
	EXPECT_EQ(0, take(self->r.s, FRONT, 0, MOST));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
	EXPECT_EQ(0, take(self->r.s, REAR, 0, MOST));
	ends(self->token, SPL_DONE, 0, 1000);
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, take(self->r.a, SEED, 1000, 1));
}

/* A forward that ends behind its prefix has taken nothing from the source. */
TEST_F_TIMEOUT(prefix, cancelled, 60)
{
	int64_t before = stuff(self->r.b, BACK);

	ASSERT_LT(0, before);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	forward(1000, PREFIX(MOST));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ends(self->token, SPL_CANCELED, 0, 0);
	EXPECT_EQ(0, take_residue(self->s, self->token, SEED, 0));
	EXPECT_EQ(0, take(self->r.a, SEED, 0, 1000));
	EXPECT_EQ(0, take(self->r.s, BACK, 0, before));
}

TEST_F(prefix, suffix_at_the_end_of_n)
{
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 501));
	forward(500, SUFFIX(20));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 500));
	EXPECT_EQ(0, take(self->r.s, REAR, 0, 20));
	ends(self->token, SPL_DONE, 0, 500);
	EXPECT_EQ(0, take(self->r.a, SEED, 500, 1));
}

TEST_F(prefix, suffix_at_the_delimiter)
{
	ASSERT_EQ(0, put_bytes(self->r.c, "one\ntwo\n", 8));
	forward(SPL_ALL, SUFFIX(20), .delim = "\n", .delim_len = 1);
	EXPECT_EQ(0, take_bytes(self->r.s, "one\n", 4));
	EXPECT_EQ(0, take(self->r.s, REAR, 0, 20));
	ends(self->token, SPL_DELIM, 0, 4);
	EXPECT_EQ(0, take_bytes(self->r.a, "two\n", 4));
}

/* The stream was shorter than expected: what should follow the whole does not follow the part. */
TEST_F(prefix, no_suffix_at_the_end_of_the_stream)
{
	forward(500, PREFIX(10), SUFFIX(20));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 499));
	ASSERT_EQ(0, fin(&self->r.c));
	ends(self->token, SPL_EOF, 0, 499);
	EXPECT_EQ(0, take(self->r.s, FRONT, 0, 10));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 499));
	EXPECT_EQ(0, at_quiet(self->r.s));
}

TEST_F(prefix, no_suffix_when_cancelled)
{
	forward(500, SUFFIX(20));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 100));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ends(self->token, SPL_CANCELED, 0, 100);
	EXPECT_EQ(0, at_quiet(self->r.s));
}

/* A limit is one of the source's bytes. */
TEST_F(prefix, of_a_splice)
{
	begun(spl_splice(self->s, self->r.a, self->r.b,
			 OPTS(PREFIX(300), SUFFIX(50), .max = 100, .flags = SPL_F_KEEP), &self->token));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 101));
	EXPECT_EQ(0, take(self->r.s, FRONT, 0, 300));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 100));
	EXPECT_EQ(0, take(self->r.s, REAR, 0, 50));
	ends(self->token, SPL_DONE, 0, 100);
	EXPECT_EQ(0, take(self->r.a, SEED, 100, 1));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

/* A header that was read to choose the server goes to the server: from a to b, not back. */
NEEDS(prefix, of_a_pair, NEEDS_TWO_WAY);
TEST_F(prefix, of_a_pair)
{
	struct spl_event ev;

	begun(spl_splice_pair(self->s, self->r.a, self->r.b, OPTS(PREFIX(MOST)), &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 500));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 700));
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, fin(&self->r.s));
	EXPECT_EQ(0, take(self->r.s, FRONT, 0, MOST));
	EXPECT_EQ(700, take_rest(self->r.s, SEED, 0));
	EXPECT_EQ(500, take_rest(self->r.c, BACK, 0));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(SPL_EOF, ev.cause);
	EXPECT_EQ(700, ev.bytes);
	EXPECT_EQ(500, ev.bytes_back);
}

/* It follows the last byte from a to b, also when it is the way back that has reached its limit. */
NEEDS(prefix, suffix_of_a_pair, NEEDS_TWO_WAY);
TEST_F(prefix, suffix_of_a_pair)
{
	struct spl_event ev;

	begun(spl_splice_pair(self->s, self->r.a, self->r.b,
			      OPTS(SUFFIX(30), .max = 100, .flags = SPL_F_KEEP), &self->token));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50));
	ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 50));
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 101));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(SPL_DONE, ev.cause);
	EXPECT_EQ(50, ev.bytes);
	EXPECT_EQ(100, ev.bytes_back);
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 100));
	EXPECT_EQ(0, take(self->r.b, BACK, 100, 1));
}

/* Nor does a suffix overtake a prefix for which there is no room yet. */
NEEDS(prefix, pair_ends_before_it, NEEDS_TCP);
TEST_F_TIMEOUT(prefix, pair_ends_before_it, 60)
{
	int64_t before = stuff(self->r.b, SEED);
	struct spl_event ev;

	ASSERT_LT(0, before);
	begun(spl_splice_pair(self->s, self->r.a, self->r.b,
			      OPTS(PREFIX(500), SUFFIX(30), .max = 100, .flags = SPL_F_KEEP), &self->token));
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 100));
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 100));
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, before));
	EXPECT_EQ(0, take(self->r.s, FRONT, 0, 500));
	EXPECT_EQ(0, take(self->r.s, REAR, 0, 30));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(SPL_DONE, ev.cause);
	EXPECT_EQ(0, ev.bytes);
	EXPECT_EQ(100, ev.bytes_back);
	EXPECT_EQ(0, at_quiet(self->r.s));
}

/* Message by message, each with a header and a trailer of another length. */
TEST_F_TIMEOUT(prefix, many, 60)
{
	unsigned int i, rounds = repeats(variant->net, 200);
	uint64_t state = 6, pos = 0;
	size_t n, front, rear;

	for (i = 0; i < rounds; i++, pos += n) {
		n = rnd_size(&state, 20000);
		front = rnd_below(&state, 5000);
		rear = rnd_below(&state, 100);
		if (i % 2)
			ASSERT_EQ(0, put(self->r.c, SEED, pos, n));
		forward(n, PREFIX(front), SUFFIX(rear));
		if (i % 2 == 0)
			ASSERT_EQ(0, put(self->r.c, SEED, pos, n));
		ASSERT_EQ(0, take(self->r.s, FRONT, 0, front));
		ASSERT_EQ(0, take(self->r.s, SEED, pos, n));
		ASSERT_EQ(0, take(self->r.s, REAR, 0, rear));
		ends(self->token, SPL_DONE, 0, n);
		ASSERT_EQ(1, _metadata->passed);
	}
}

SUITE_MAIN
