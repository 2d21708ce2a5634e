// SPDX-License-Identifier: GPL-2.0
/* delim.c: a forward that stops right behind a byte sequence, wherever the segments are cut. */
#include "harness.h"

#define SEED 1

FIXTURE(delim) {
	struct spl *s;
	struct relay r;
	uint64_t token;
};

FIXTURE_VARIANT(delim) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_SOCKETS(delim);
KMOD_MORE_TLS(delim);
USER_SOCKETS(delim);
USER_PIPES(delim);
USER_LOSSLESS(delim);
USER_TLS(delim);
USER_MORE_TLS(delim);

FIXTURE_SETUP(delim)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(delim)
{
	spl_close(self->s);
	relay_close(&self->r);
}

#define forward(n, bytes, len, ...)							\
	begun(spl_forward(self->s, self->r.a, self->r.b, n,				\
			  OPTS(.delim = bytes, .delim_len = len, ##__VA_ARGS__), &self->token))

/* text, cut in two at `at`; it has the delimiter, which ends at `end`, and rest behind it. */
#define cut_at(text, len, delim_, delim_len_, end, at)					\
	do {										\
		forward(SPL_ALL, delim_, delim_len_);					\
		if (at) {								\
			ASSERT_EQ(0, put_bytes(self->r.c, text, at));			\
			if ((at) < (end))						\
				ASSERT_EQ(0, wait_moved(self->s, self->token, at));	\
		}									\
		ASSERT_EQ(0, put_bytes(self->r.c, (text) + (at), (len) - (at)));	\
		ends(self->token, SPL_DELIM, 0, end);					\
		ASSERT_EQ(0, take_bytes(self->r.s, text, end));				\
		ASSERT_EQ(0, take_bytes(self->r.a, (text) + (end), (len) - (end)));	\
		ASSERT_EQ(1, _metadata->passed);					\
	} while (0)

TEST_F_TIMEOUT(delim, cut_anywhere, 60)
{
	static const char text[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\nbody";
	unsigned int at, len = sizeof(text) - 1;

	for (at = 0; at < len; at++)
		cut_at(text, len, "\r\n\r\n", 4, len - 4, at);
}

/* A beginning that fails may hold the beginning that does not. */
TEST_F_TIMEOUT(delim, beginnings_overlap, 60)
{
	static const struct { const char *delim, *text; size_t end; } cases[] = {
		{ "aab", "aaab.", 4 },
		{ "aab", "aaaaaabb.", 7 },
		{ "ababc", "abababc.", 7 },
		{ "abcabd", "abcabcabd.", 9 },
		{ "\r\n\r\n", "\r\r\n\r\r\n\r\n.", 8 },
		{ "aaaaaaaaaaaaaaab", "aaaaaaaaaaaaaaaaaaaab.", 21 },
	};
	unsigned int i, at;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		for (at = 0; at < strlen(cases[i].text); at++)
			cut_at(cases[i].text, strlen(cases[i].text), cases[i].delim,
			       strlen(cases[i].delim), cases[i].end, at);
}

TEST_F(delim, every_length)
{
	static const char text[] = "0123456789abcdef", last[] = "the rest";
	unsigned int len;

	for (len = 1; len <= 16; len++) {
		forward(SPL_ALL, text + 16 - len, len);
		ASSERT_EQ(0, put_bytes(self->r.c, text, 16));
		ASSERT_EQ(0, put_bytes(self->r.c, last, 8));
		ends(self->token, SPL_DELIM, 0, 16);
		ASSERT_EQ(0, take_bytes(self->r.s, text, 16));
		ASSERT_EQ(0, take_bytes(self->r.a, last, 8));
	}
}

/* Zeroes are bytes as others. */
TEST_F(delim, zeroes)
{
	static const char text[] = "ab\0c\0\0rest";

	forward(SPL_ALL, "\0\0", 2);
	ASSERT_EQ(0, put_bytes(self->r.c, text, 10));
	ends(self->token, SPL_DELIM, 0, 6);
	EXPECT_EQ(0, take_bytes(self->r.s, text, 6));
	EXPECT_EQ(0, take_bytes(self->r.a, "rest", 4));
}

/* Few letters, so that beginnings are everywhere; cut anywhere; what memmem() finds is right. */
TEST_F_TIMEOUT(delim, as_memmem, 120)
{
	unsigned int i, rounds = repeats(variant->net, 300);
	char text[600], delim[16];
	size_t len, dlen, end, off, n;
	uint64_t state = 12;
	char *found;

	for (i = 0; i < rounds; i++) {
		dlen = 1 + rnd_below(&state, i % 2 ? 16 : 5);
		for (n = 0; n < dlen; n++)
			delim[n] = 'a' + rnd_below(&state, 2);
		len = 1 + rnd_below(&state, sizeof(text) - 20);
		for (n = 0; n < len; n++)
			text[n] = 'a' + rnd_below(&state, 2);
		memcpy(text + len, delim, dlen);
		found = memmem(text, len + dlen, delim, dlen);
		end = found - text + dlen;
		forward(SPL_ALL, delim, dlen);
		for (off = 0; off < len + dlen; off += n) {
			n = rnd_size(&state, len + dlen - off);
			ASSERT_EQ(0, put_bytes(self->r.c, text + off, n));
		}
		ends(self->token, SPL_DELIM, 0, end);
		ASSERT_EQ(0, take_bytes(self->r.s, text, end));
		ASSERT_EQ(0, take_bytes(self->r.a, text + end, len + dlen - end));
		ASSERT_EQ(1, _metadata->passed) {
			TH_LOG("round %u: '%.*s' in '%.*s'", i, (int)dlen, delim, (int)(len + dlen), text);
		}
	}
}

TEST_F(delim, never_comes)
{
	forward(SPL_ALL, "\n\n", 2);
	ASSERT_EQ(0, put_bytes(self->r.c, "a line\nand\n", 11));
	ASSERT_EQ(0, fin(&self->r.c));
	ends(self->token, SPL_EOF, 0, 11);
	EXPECT_EQ(0, take_bytes(self->r.s, "a line\nand\n", 11));
	EXPECT_EQ(0, at_quiet(self->r.s));
}

/* n is an upper bound. */
TEST_F(delim, behind_n)
{
	forward(4, "\n", 1);
	ASSERT_EQ(0, put_bytes(self->r.c, "four\nmore", 9));
	ends(self->token, SPL_DONE, 0, 4);
	EXPECT_EQ(0, take_bytes(self->r.s, "four", 4));
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, take_bytes(self->r.a, "\nmore", 5));
}

TEST_F(delim, before_n)
{
	forward(100, "\n", 1);
	ASSERT_EQ(0, put_bytes(self->r.c, "four\nmore", 9));
	ends(self->token, SPL_DELIM, 0, 5);
	EXPECT_EQ(0, take_bytes(self->r.s, "four\n", 5));
	EXPECT_EQ(0, take_bytes(self->r.a, "more", 4));
}

/* What one forward ended in the middle of is not the beginning of what the next looks for. */
TEST_F(delim, not_over_two_forwards)
{
	forward(3, "ab", 2);
	ASSERT_EQ(0, put_bytes(self->r.c, "..ab.ab!", 8));
	ends(self->token, SPL_DONE, 0, 3);
	forward(SPL_ALL, "ab", 2);
	ends(self->token, SPL_DELIM, 0, 4);
	EXPECT_EQ(0, take_bytes(self->r.s, "..ab.ab", 7));
	EXPECT_EQ(0, take_bytes(self->r.a, "!", 1));
}

/* A prefix is the caller's: what is in it, or begins in it, was not read. */
TEST_F(delim, not_in_the_prefix)
{
	forward(SPL_ALL, "ab", 2, .prefix = "ab ab a", .prefix_len = 7);
	ASSERT_EQ(0, put_bytes(self->r.c, "b ab!", 5));
	ends(self->token, SPL_DELIM, 0, 4);
	EXPECT_EQ(0, take_bytes(self->r.s, "ab ab ab ab", 11));
	EXPECT_EQ(0, take_bytes(self->r.a, "!", 1));
}

TEST_F_TIMEOUT(delim, lines, 60)
{
	unsigned int i, sent = 0, rounds = repeats(variant->net, 300);
	char line[64];
	int len;

	for (i = 0; i < rounds; i++) {
		/* a few lines ahead */
		for (; sent < rounds && sent < i + 1 + i % 50; sent++) {
			len = snprintf(line, sizeof(line), "line %u\r\n", sent * sent);
			ASSERT_EQ(0, put_bytes(self->r.c, line, len));
		}
		len = snprintf(line, sizeof(line), "line %u\r\n", i * i);
		forward(SPL_ALL, "\r\n", 2);
		ends(self->token, SPL_DELIM, 0, len);
		ASSERT_EQ(0, take_bytes(self->r.s, line, len));
	}
}

/* Megabytes before it, and a sink that is slow. */
TEST_F_TIMEOUT(delim, behind_bulk, 120)
{
	static const char marker[] = "<<this is the->>";
	uint64_t len = bulk(variant->net, scaled(8000000));
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = len };
	struct spl_event ev;

	forward(SPL_ALL, marker, 16);
	ASSERT_EQ(0, stream_send(&tx));
	sleep_ms(200);
	ASSERT_EQ(0, take(self->r.s, SEED, 0, len));
	ASSERT_EQ(0, stream_join(&tx));
	ASSERT_EQ(0, put_bytes(self->r.c, marker, 16));
	ASSERT_EQ(0, put_bytes(self->r.c, marker, 16));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(SPL_DELIM, ev.cause);
	EXPECT_EQ(len + 16, ev.bytes);
	EXPECT_EQ(0, take_bytes(self->r.s, marker, 16));
	EXPECT_EQ(0, take_bytes(self->r.a, marker, 16));
}

/* The sink is full in the middle of the delimiter. */
TEST_F_TIMEOUT(delim, sink_full_in_the_middle, 120)
{
	unsigned int i, rounds = scaled(6) + 2;
	int64_t before;

	/* full soon; a pipe is small already */
	set_opt(self->r.b, SOL_SOCKET, SO_SNDBUF, 65536);
	set_opt(self->r.s, SOL_SOCKET, SO_RCVBUF, 65536);
	for (i = 0; i < rounds; i++) {
		before = stuff(self->r.b, SEED);
		ASSERT_LT(0, before);
		forward(SPL_ALL, "end of it", 9);
		ASSERT_EQ(0, put_bytes(self->r.c, "the end of end of it, really", 28));
		/* room, a few bytes at a time */
		ASSERT_EQ(0, take(self->r.s, SEED, 0, before));
		ends(self->token, SPL_DELIM, 0, 20);
		ASSERT_EQ(0, take_bytes(self->r.s, "the end of end of it", 20));
		ASSERT_EQ(0, take_bytes(self->r.a, ", really", 8));
	}
}

TEST_F(delim, cancelled)
{
	forward(SPL_ALL, "\n", 1);
	ASSERT_EQ(0, put_bytes(self->r.c, "no line", 7));
	ASSERT_EQ(0, take_bytes(self->r.s, "no line", 7));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ends(self->token, SPL_CANCELED, 0, 7);
	ASSERT_EQ(0, put_bytes(self->r.c, "\n", 1));
	EXPECT_EQ(0, take_bytes(self->r.a, "\n", 1));
}

SUITE_MAIN
