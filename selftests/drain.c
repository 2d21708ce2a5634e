// SPDX-License-Identifier: GPL-2.0
/* drain.c: SPL_F_DRAIN: not over before the sink's peer has acknowledged every byte; and `unacked`, what it had not. */
#include "harness.h"

#define SEED 1
#define BACK 2

FIXTURE(drain) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	struct spl_event ev;
	int64_t before;		/* what stands between the sink and its peer's application */
};

FIXTURE_VARIANT(drain) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

VARIANT(drain, kmod_v4, .engine = SPL_ENGINE_KMOD, .net = NET_V4);
VARIANT(drain, kmod_v6, .engine = SPL_ENGINE_KMOD, .net = NET_V6);
VARIANT(drain, kmod_unix2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX_TO_TCP);
KMOD_TLS(drain);
SOCKMAP_SOCKETS(drain);
VARIANT(drain, user_v4, .engine = SPL_ENGINE_USER, .net = NET_V4);
VARIANT(drain, user_v6, .engine = SPL_ENGINE_USER, .net = NET_V6);
VARIANT(drain, user_unix2tcp, .engine = SPL_ENGINE_USER, .net = NET_UNIX_TO_TCP);
VARIANT(drain, user_pipe2tcp, .engine = SPL_ENGINE_USER, .net = NET_PIPE_TO_TCP);
USER_TLS(drain);
VARIANT(drain, user_v4_lossless, .engine = SPL_ENGINE_USER, .net = NET_V4, .require = SPL_CAP_LOSSLESS);

/* The peer's buffer is full, the sink's own has room: what is sent now is accepted and not acknowledged. */
FIXTURE_SETUP(drain)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	self->before = 600000;
	ASSERT_EQ(0, put(self->r.b, BACK, 0, self->before));
}

FIXTURE_TEARDOWN(drain)
{
	spl_close(self->s);
	relay_close(&self->r);
}

#define forward(n, flags_, ...)								\
	begun(spl_forward(self->s, self->r.a, self->r.b, n,				\
			  OPTS(.flags = flags_, ##__VA_ARGS__), &self->token))

TEST_F(drain, without)
{
	forward(1000, 0);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_DONE, self->ev.cause);
	EXPECT_LE(1000, self->ev.unacked);
	EXPECT_EQ(0, take(self->r.s, BACK, 0, self->before));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
}

TEST_F(drain, waits)
{
	struct spl_stat st;

	forward(1000, SPL_F_DRAIN);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1001));
	ASSERT_EQ(0, no_event(self->s));
	ASSERT_EQ(0, spl_stat(self->s, self->token, &st));
	EXPECT_EQ(1000, st.bytes);
	EXPECT_EQ(SPL_WANTS_WRITE, st.wants);
	EXPECT_EQ(0, take(self->r.s, BACK, 0, self->before));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_DONE, self->ev.cause);
	EXPECT_EQ(1000, self->ev.bytes);
	EXPECT_EQ(0, self->ev.unacked);
	EXPECT_EQ(0, take(self->r.a, SEED, 1000, 1));
}

/* The FIN of a shutdown is no byte. */
TEST_F(drain, to_the_end)
{
	forward(SPL_ALL, SPL_F_DRAIN | SPL_F_SHUTDOWN);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, take(self->r.s, BACK, 0, self->before));
	EXPECT_EQ(1000, take_rest(self->r.s, SEED, 0));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_EOF, self->ev.cause);
	EXPECT_EQ(1000, self->ev.bytes);
	EXPECT_EQ(0, self->ev.unacked);
}

/* Prefix and suffix are waited for too. */
TEST_F(drain, of_a_suffix)
{
	forward(0, SPL_F_DRAIN, .suffix = "bye", .suffix_len = 3);
	ASSERT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, take(self->r.s, BACK, 0, self->before));
	EXPECT_EQ(0, take_bytes(self->r.s, "bye", 3));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_DONE, self->ev.cause);
	EXPECT_EQ(0, self->ev.unacked);
}

TEST_F(drain, of_a_send)
{
	begun(spl_send(self->s, self->r.b, "hello", 5, OPTS(.flags = SPL_F_DRAIN), &self->token));
	ASSERT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, take(self->r.s, BACK, 0, self->before));
	EXPECT_EQ(0, take_bytes(self->r.s, "hello", 5));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_DONE, self->ev.cause);
	EXPECT_EQ(0, self->ev.unacked);
}

TEST_F(drain, of_a_splice)
{
	begun(spl_splice(self->s, self->r.a, self->r.b, OPTS(.flags = SPL_F_DRAIN), &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, take(self->r.s, BACK, 0, self->before));
	EXPECT_EQ(1000, take_rest(self->r.s, SEED, 0));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_EOF, self->ev.cause);
	EXPECT_EQ(0, self->ev.unacked);
}

TEST_F(drain, nothing_to_wait_for)
{
	ASSERT_EQ(0, take(self->r.s, BACK, 0, self->before));
	forward(10, SPL_F_DRAIN);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_DONE, self->ev.cause);
	EXPECT_EQ(0, self->ev.unacked);
}

/* All bytes are accepted: cancelling takes none of them back. */
TEST_F(drain, cancelled)
{
	forward(1000, SPL_F_DRAIN);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, wait_moved(self->s, self->token, 1000));
	ASSERT_EQ(0, no_event(self->s));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_CANCELED, self->ev.cause);
	EXPECT_EQ(1000, self->ev.bytes);
	EXPECT_LE(1000, self->ev.unacked);
	EXPECT_EQ(0, take_residue(self->s, self->token, SEED, 0));
	EXPECT_EQ(0, take(self->r.s, BACK, 0, self->before));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
}

TEST_F(drain, peer_resets)
{
	forward(1000, SPL_F_DRAIN);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, wait_moved(self->s, self->token, 1000));
	ASSERT_EQ(0, no_event(self->s));
	ASSERT_EQ(0, tcp_reset(&self->r.s));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_SINK_FAILED, self->ev.cause);
	EXPECT_EQ(ECONNRESET, self->ev.error);
	EXPECT_EQ(1000, self->ev.bytes);
}

/* Of a pair each of the two sinks is waited for, and each of them may fail meanwhile. */
NEEDS(drain, of_a_pair, NEEDS_TCP);
TEST_F(drain, of_a_pair)
{
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, OPTS(.flags = SPL_F_DRAIN), &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, fin(&self->r.s));
	EXPECT_EQ(0, at_eof(self->r.c));
	ASSERT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, take(self->r.s, BACK, 0, self->before));
	EXPECT_EQ(1000, take_rest(self->r.s, SEED, 0));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_EOF, self->ev.cause);
	EXPECT_EQ(0, self->ev.unacked);
}

NEEDS(drain, of_a_pair_that_is_reset, NEEDS_TCP);
TEST_F(drain, of_a_pair_that_is_reset)
{
	int64_t back = stuff(self->r.a, BACK);

	ASSERT_LT(0, back);
	/* b's peer has all: what a's peer has not is what is waited for */
	ASSERT_EQ(0, take(self->r.s, BACK, 0, self->before));
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, OPTS(.flags = SPL_F_DRAIN), &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, fin(&self->r.s));
	EXPECT_EQ(0, at_eof(self->r.s));
	ASSERT_EQ(0, no_event(self->s));
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_SOURCE_FAILED, self->ev.cause);
	EXPECT_TRUE(self->ev.error == ECONNRESET || self->ev.error == EPIPE);
}

/* The last acknowledgement of a peer that has said its FIN closes the connection: that is no failure. */
NEEDS(drain, peer_had_ended, NEEDS_TCP);
TEST_F_TIMEOUT(drain, peer_had_ended, 60)
{
	unsigned int i, rounds = scaled(100);

	for (i = 0; i < rounds; i++) {
		relay_close(&self->r);
		ASSERT_EQ(0, relay_open(&self->r, variant->net));
		ASSERT_EQ(0, fin(&self->r.s));
		ASSERT_EQ(0, put(self->r.c, SEED, 0, 5));
		ASSERT_EQ(0, fin(&self->r.c));
		forward(SPL_ALL, SPL_F_DRAIN | SPL_F_SHUTDOWN);
		ends(self->token, SPL_EOF, 0, 5);
		ASSERT_EQ(1, _metadata->passed);
	}
}

/* A peer that never acknowledges does not hold it for longer than it may be idle. */
TEST_F(drain, idle)
{
	uint64_t began = now_ms();

	forward(1000, SPL_F_DRAIN, .idle_ms = 300);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_IDLE, self->ev.cause);
	EXPECT_LE(290, now_ms() - began);
	EXPECT_EQ(1000, self->ev.bytes);
	EXPECT_LE(1000, self->ev.unacked);
}

/* Both ways reach the limit as the operation begins: one waits for acknowledgments before the other has begun. */
NEEDS(drain, at_once, NEEDS_TCP | NEEDS_LIMITED_PAIR);
TEST_F_TIMEOUT(drain, at_once, 100)
{
	unsigned int i, rounds = scaled(300);
	struct relay r;

	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, relay_open(&r, variant->net));
		ASSERT_EQ(0, put(r.c, SEED, 0, 1));
		ASSERT_EQ(0, put(r.s, BACK, 0, 1));
		begun(spl_splice_pair(self->s, r.a, r.b, OPTS(.flags = SPL_F_DRAIN, .max = 1),
				      &self->token));
		r.a = r.b = -1;
		ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
		ASSERT_EQ(SPL_DONE, self->ev.cause);
		ASSERT_EQ(0, self->ev.unacked);
		ASSERT_LE(1, self->ev.bytes + self->ev.bytes_back);
		relay_close(&r);
	}
}

SUITE_MAIN
