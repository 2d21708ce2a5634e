// SPDX-License-Identifier: GPL-2.0
/* splice.c: flows that own their ends: pairs and one-way splices, from start to end. */
#include "harness.h"

#define SEED 1
#define BACK 2

FIXTURE(splice) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	struct spl_event ev;
};

FIXTURE_VARIANT(splice) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_SOCKETS(splice);
KMOD_MORE_TLS(splice);
USER_SOCKETS(splice);
USER_LOSSLESS(splice);
USER_TLS(splice);

FIXTURE_SETUP(splice)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(splice)
{
	spl_close(self->s);
	relay_close(&self->r);
}

static bool keeps(const struct spl_opts *opts)
{
	return opts && opts->flags & SPL_F_KEEP;
}

/* Gives a and b away. On success the numbers are closed: nobody may use them any more. */
#define give(call, opts)								\
	do {										\
		bool __keep = keeps(opts);						\
		ASSERT_EQ(0, call(self->s, self->r.a, self->r.b, opts, &self->token)) {	\
			TH_LOG("refused: %s", spl_strerror_last(self->s));		\
		}									\
		/* an engine of user space may have made them its own */		\
		if (__keep || variant->engine == SPL_ENGINE_KMOD) {			\
			ASSERT_EQ(__keep, fd_open(self->r.a));				\
			ASSERT_EQ(__keep, fd_open(self->r.b));				\
		}									\
		if (!__keep)								\
			self->r.a = self->r.b = -1;					\
	} while (0)

#define ends_with(why, err)							\
	do {									\
		ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));	\
		EXPECT_EQ(why, self->ev.cause) {				\
			TH_LOG("ended %s", spl_cause_name(self->ev.cause));	\
		}								\
		EXPECT_EQ(err, self->ev.error);					\
		EXPECT_EQ(0, no_event(self->s));				\
	} while (0)

/* Both ways at once, random chunks, to the end. */
TEST_F_TIMEOUT(splice, pair, 120)
{
	struct stream st[4] = {
		{ .fd = self->r.c, .seed = SEED, .len = bulk(variant->net, scaled(6000000)), .fin = true },
		{ .fd = self->r.s, .seed = SEED, .len = SPL_ALL },
		{ .fd = self->r.s, .seed = BACK, .len = bulk(variant->net, scaled(4000000)), .fin = true,
		  .chunk = 3000 },
		{ .fd = self->r.c, .seed = BACK, .len = SPL_ALL, .chunk = 5000 },
	};
	int i;

	give(spl_splice_pair, OPTS(.user_data = 99));
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, i % 2 ? stream_recv(st + i) : stream_send(st + i));
	}
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(0, stream_join(st + i)) {
			TH_LOG("stream %d after %llu bytes", i, (unsigned long long)st[i].done);
		}
	}
	EXPECT_EQ(st[0].len, st[1].done);
	EXPECT_EQ(st[2].len, st[3].done);
	ends_with(SPL_EOF, 0);
	EXPECT_EQ(st[0].len, self->ev.bytes);
	EXPECT_EQ(st[2].len, self->ev.bytes_back);
	EXPECT_EQ(99, self->ev.user_data);
	EXPECT_EQ(SPL_END_SOURCE | SPL_END_SINK, self->ev.ended);
}

/* All had come, with FIN, before the splice. */
TEST_F(splice, pair_of_finished_streams)
{
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 20000));
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 10000));
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
	ASSERT_EQ(0, wait_queued(self->r.a, 20000));
	ASSERT_EQ(0, wait_queued(self->r.b, 10000));
	give(spl_splice_pair, NULL);
	EXPECT_EQ(20000, take_rest(self->r.s, SEED, 0));
	EXPECT_EQ(10000, take_rest(self->r.c, BACK, 0));
	ends_with(SPL_EOF, 0);
	EXPECT_EQ(20000, self->ev.bytes);
	EXPECT_EQ(10000, self->ev.bytes_back);
}

TEST_F(splice, half_close)
{
	give(spl_splice_pair, NULL);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100000));
	ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(100000, take_rest(self->r.s, SEED, 0));
	EXPECT_EQ(0, no_event(self->s));
	/* the answer comes long after the request has ended */
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 60000));
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 60000));
	sleep_ms(100);
	ASSERT_EQ(0, put(self->r.s, BACK, 60000, 60000));
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
	EXPECT_EQ(60000, take_rest(self->r.c, BACK, 60000));
	ends_with(SPL_EOF, 0);
	EXPECT_EQ(100000, self->ev.bytes);
	EXPECT_EQ(120000, self->ev.bytes_back);
}

TEST_F(splice, half_close_back)
{
	give(spl_splice_pair, NULL);
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 10));
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
	EXPECT_EQ(10, take_rest(self->r.c, BACK, 0));
	EXPECT_EQ(0, no_event(self->s));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100000));
	ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(100000, take_rest(self->r.s, SEED, 0));
	ends_with(SPL_EOF, 0);
}

NEEDS(splice, client_resets, NEEDS_TCP_CLIENT);
TEST_F(splice, client_resets)
{
	give(spl_splice_pair, NULL);
	ASSERT_EQ(0, alive(self->r.c, self->r.s));
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	EXPECT_EQ(0, at_cut(self->r.s));
	ends_with(SPL_SOURCE_FAILED, ECONNRESET);
	EXPECT_EQ(SPL_END_SOURCE, self->ev.ended & SPL_END_SOURCE);
}

NEEDS(splice, server_resets, NEEDS_TCP_SERVER);
TEST_F(splice, server_resets)
{
	give(spl_splice_pair, NULL);
	ASSERT_EQ(0, alive(self->r.c, self->r.s));
	ASSERT_EQ(0, tcp_reset(&self->r.s));
	EXPECT_EQ(0, at_cut(self->r.c));
	ends_with(SPL_SINK_FAILED, ECONNRESET);
	EXPECT_EQ(SPL_END_SINK, self->ev.ended & SPL_END_SINK);
}

/* The peer of the sink has read nothing and goes away: a reset, and no FIN, to the sender. */
NEEDS(splice, server_resets_while_blocked, NEEDS_TCP_SERVER);
TEST_F_TIMEOUT(splice, server_resets_while_blocked, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };
	int err;

	give(spl_splice_pair, NULL);
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_stuck(&tx, 300));
	ASSERT_EQ(0, tcp_reset(&self->r.s));
	err = stream_join(&tx);
	EXPECT_TRUE(err == -ECONNRESET || err == -EPIPE);
	ends_with(SPL_SINK_FAILED, ECONNRESET);
}

/* The server goes in an orderly way, in the middle of a request: that is a failure of the sink. */
TEST_F_TIMEOUT(splice, server_goes, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL, .pause_us = 1000 };
	int err;

	give(spl_splice_pair, NULL);
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 50000));
	close_fd(&self->r.s);
	err = stream_join(&tx);
	EXPECT_TRUE(err == -ECONNRESET || err == -EPIPE) {
		TH_LOG("the sender: %s", strerror(-err));
	}
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_SINK_FAILED, self->ev.cause);
	EXPECT_TRUE(self->ev.error == EPIPE || self->ev.error == ECONNRESET);
	EXPECT_EQ(SPL_END_SINK, self->ev.ended & SPL_END_SINK);
	EXPECT_LE(50000, self->ev.bytes);
}

/* A reset after a half-close still crosses. */
NEEDS(splice, reset_after_half_close, NEEDS_TCP_SERVER);
TEST_F(splice, reset_after_half_close)
{
	give(spl_splice_pair, NULL);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(10, take_rest(self->r.s, SEED, 0));
	ASSERT_EQ(0, tcp_reset(&self->r.s));
	EXPECT_EQ(0, at_cut(self->r.c));
	ends_with(SPL_SINK_FAILED, ECONNRESET);
}

TEST_F(splice, cancel_closes_what_it_owns)
{
	give(spl_splice_pair, NULL);
	ASSERT_EQ(0, alive(self->r.c, self->r.s));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ends_with(SPL_CANCELED, 0);
	EXPECT_EQ(0, at_eof(self->r.c));
	EXPECT_EQ(0, at_eof(self->r.s));
}

/* A refused call has done nothing to the descriptors. */
TEST_F(splice, untouched_when_refused)
{
	int file = open("/proc/self/exe", O_RDONLY);

	EXPECT_EQ(-EINVAL, spl_splice_pair(self->s, self->r.a, self->r.b,
					   OPTS(.flags = 1u << 30), &self->token));
	EXPECT_EQ(-ENOTSOCK, spl_splice_pair(self->s, self->r.a, file, NULL, &self->token));
	EXPECT_EQ(-ENOTSOCK, spl_splice(self->s, file, self->r.b, NULL, &self->token));
	EXPECT_EQ(true, fd_open(file));
	close(file);
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, alive(self->r.a, self->r.c));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

TEST_F(splice, revoke)
{
	struct spl_stat st;

	give(spl_splice_pair, NULL);
	ASSERT_EQ(0, alive(self->r.c, self->r.s));
	ASSERT_EQ(0, spl_revoke(self->s, self->token, ETIMEDOUT));
	EXPECT_EQ(-ENOENT, spl_stat(self->s, self->token, &st));
	EXPECT_EQ(0, at_cut(self->r.c));
	EXPECT_EQ(0, at_cut(self->r.s));
	ends_with(SPL_REVOKED, ETIMEDOUT);
	EXPECT_EQ(SPL_END_SOURCE | SPL_END_SINK, self->ev.ended);
	EXPECT_EQ(1, self->ev.bytes);
}

TEST_F(splice, revoke_of_a_forward)
{
	struct spl_stat st;

	ASSERT_EQ(0, spl_forward(self->s, self->r.a, self->r.b, SPL_ALL, NULL, &self->token));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 10));
	ASSERT_EQ(0, spl_revoke(self->s, self->token, EACCES));
	EXPECT_EQ(-ENOENT, spl_stat(self->s, self->token, &st));
	EXPECT_EQ(0, at_cut_by(variant->engine, self->r.a, self->r.c));
	EXPECT_EQ(0, at_cut_by(variant->engine, self->r.b, self->r.s));
	ends_with(SPL_REVOKED, EACCES);
	EXPECT_EQ(true, fd_open(self->r.a));
	EXPECT_EQ(true, fd_open(self->r.b));
}

TEST_F_TIMEOUT(splice, stat, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };
	struct spl_stat st;
	int64_t got;

	give(spl_splice_pair, NULL);
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 77));
	ASSERT_EQ(0, take(self->r.c, BACK, 0, 77));
	sleep_ms(200);
	ASSERT_EQ(0, spl_stat(self->s, self->token, &st));
	EXPECT_EQ(0, st.bytes);
	EXPECT_EQ(77, st.bytes_back);
	EXPECT_LE(190, st.idle_ms);
	EXPECT_LE(st.idle_ms, st.age_ms);
	EXPECT_GT(WAIT_MS, st.age_ms);
	EXPECT_EQ(SPL_WANTS_READ, st.wants);
	EXPECT_EQ(SPL_WANTS_READ, st.wants_back);
	EXPECT_EQ(variant->engine, st.engine);
	/* nobody reads the sink */
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_stuck(&tx, 500));
	ASSERT_EQ(0, spl_stat(self->s, self->token, &st));
	EXPECT_EQ(SPL_WANTS_WRITE, st.wants);
	EXPECT_EQ(SPL_WANTS_READ, st.wants_back);
	EXPECT_LT(0, st.bytes);
	EXPECT_GE(tx.done, st.bytes);
	tx.stop = tx.fin = true;
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
	got = take_rest(self->r.s, SEED, 0);
	EXPECT_EQ(0, stream_join(&tx));
	EXPECT_EQ((int64_t)tx.done, got);
	ends_with(SPL_EOF, 0);
	EXPECT_EQ(tx.done, self->ev.bytes);
	EXPECT_EQ(-ENOENT, spl_stat(self->s, self->token, &st));
}

/* Urgent data: the stream goes on; the byte is part of it only for an inline socket. TLS knows no such thing. */
NEEDS(splice, urgent_data, NEEDS_TCP_CLIENT | NEEDS_PLAIN);
TEST_F(splice, urgent_data)
{
	uint64_t pos, inline_byte = 0;
	unsigned int i;
	char byte;

	give(spl_splice_pair, OPTS(.flags = SPL_F_KEEP));
	for (i = 0, pos = 0; i < 20; i++, pos += 1000) {
		ASSERT_EQ(0, put(self->r.c, SEED, pos, 500));
		ASSERT_EQ(1, send(self->r.c, "!", 1, MSG_OOB));
		ASSERT_EQ(0, put(self->r.c, SEED, pos + 500, 500));
		ASSERT_EQ(0, take(self->r.s, SEED, pos, 1000));
	}
	/* what the sink has the source may still be about to give up */
	sleep_ms(QUIET_MS);
	ASSERT_EQ(0, set_opt(self->r.a, SOL_SOCKET, SO_OOBINLINE, 1));
	ASSERT_EQ(1, send(self->r.c, "!", 1, MSG_OOB));
	ASSERT_LT(0, poll_fd(self->r.s, POLLIN, WAIT_MS));
	inline_byte += recv(self->r.s, &byte, 1, 0);
	EXPECT_EQ('!', byte);
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
	EXPECT_EQ(0, at_eof(self->r.s));
	ends_with(SPL_EOF, 0);
	EXPECT_EQ(pos + inline_byte, self->ev.bytes);
}

/* One splice after another on the same context, each with its own end. */
TEST_F_TIMEOUT(splice, again_and_again, 120)
{
	unsigned int i, rounds = repeats(variant->net, 200);

	for (i = 0; i < rounds; i++) {
		give(spl_splice_pair, NULL);
		ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
		ASSERT_EQ(0, put(self->r.s, BACK, 0, 1000));
		ASSERT_EQ(0, fin(&self->r.c));
		ASSERT_EQ(1000, take_rest(self->r.s, SEED, 0));
		close_fd(&self->r.s);
		ASSERT_EQ(1000, take_rest(self->r.c, BACK, 0));
		ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
		ASSERT_EQ(SPL_EOF, self->ev.cause);
		relay_close(&self->r);
		ASSERT_EQ(0, relay_open(&self->r, variant->net));
	}
}

SUITE_MAIN
